/* Whatever a server sends, in whatever pieces: an error with a message, or tokens that add up and are bounded. */
#include "bench/run/http_answer.h"
#include "fuzz/fuzz.h"

enum { CHOICES = 3, MOST = 8 };

static bool count_tokens(void *context, uint32_t sequence, uint32_t count)
{
    FUZZ_CHECK(sequence < CHOICES && count > 0);
    *(uint64_t *)context += count;
    return true;
}

/* The first byte says how many sequences were asked for, and how long the pieces are. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t     told   = 0;
    qr_answer    answer = {.take_tokens = count_tokens, .context = &told};
    quire_error  error  = {0};
    quire_status status = QUIRE_OK;
    if (size == 0) return 0;
    const size_t piece = 1 + data[0] / CHOICES;
    FUZZ_CHECK(qr_answer_begin(&answer, 1 + data[0] % CHOICES, MOST) == QUIRE_OK);
    for (size_t at = 1; at < size && status == QUIRE_OK; at += piece)
        status = qr_answer_take(&answer, (const char *)data + at, size - at < piece ? size - at : piece, &error);
    if (status == QUIRE_OK) status = qr_answer_end(&answer, &error);
    fuzz_check_error(status, &error);
    FUZZ_CHECK(told == answer.tokens && told <= (uint64_t)CHOICES * (2 * MOST + 64));
    qr_answer_deinit(&answer);
    return 0;
}
