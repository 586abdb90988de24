/* An accepted config.json holds the invariants that the forward passes rely on (model/architecture.h). */
#include "fuzz/fuzz.h"
#include "model/config_json.h"

static void check_architecture(const qr_architecture *a)
{
    FUZZ_CHECK(a->vocab_size > 0 && a->hidden_size > 0 && a->intermediate_size > 0 && a->layers > 0);
    FUZZ_CHECK(a->heads > 0 && a->kv_heads > 0 && a->head_dim > 0 && a->heads % a->kv_heads == 0);
    FUZZ_CHECK((uint64_t)a->heads * a->head_dim < UINT32_MAX &&
               (uint64_t)a->vocab_size * a->hidden_size < UINT64_MAX / 8);
    FUZZ_CHECK(a->norm_epsilon > 0 && a->eos_count <= sizeof a->eos_token_ids / sizeof *a->eos_token_ids);
    FUZZ_CHECK(a->embedding_name != NULL && a->family != NULL);
    if (a->encoder_layers > 0)
        FUZZ_CHECK(a->kv_heads == a->heads && a->encoder_layers >= 1 && a->relative_buckets > 0);
    else
        FUZZ_CHECK(a->encoder_layers == 0 && a->decoder_start_token_id == -1 && a->head_dim % 2 == 0 &&
                   a->rope.theta > 0 && a->rope.factor >= 1 && a->rope.magnitude > 0);
    FUZZ_CHECK(a->full_layers < a->layers && (a->window > 0 || a->full_layers == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qr_architecture    architecture;
    quire_error        error = {0};
    const quire_status status =
        qr_architecture_parse((const char *)data, size, "config.json", NULL, 0, &architecture, &error);
    fuzz_check_error(status, &error);
    if (status == QUIRE_OK) check_architecture(&architecture);
    return 0;
}
