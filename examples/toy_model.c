/* A host with a model of its own: quire schedules and keeps the block tables, the host computes. The toy's next token
 * is the sum of all tokens so far, which it finds only through the block tables: a wrong slot would change the answer.
 * Usage: toy_model [REQUESTS] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <quire/quire.h>

enum { VOCAB = 1000, BLOCKS = 30, BLOCK = 16, REQUESTS = 32, PROMPT = 50, MAX_TOKENS = 60, MAX_SAMPLES = 64 };

static int32_t cache[BLOCKS * BLOCK]; /* the toy's "keys and values": the token of each slot */

static int32_t next_token(const quire_plan_sequence *sequence, uint32_t length)
{
    int64_t sum = 0;
    for (uint32_t p = 0; p < length; p++) sum += cache[sequence->blocks[p / BLOCK] * BLOCK + p % BLOCK];
    return (int32_t)(sum % VOCAB);
}

static void forward(const quire_plan *plan, quire_sampled *sampled)
{
    for (uint32_t i = 0; i < plan->copy_count; i++)
        memcpy(&cache[plan->copies[i].to * BLOCK], &cache[plan->copies[i].from * BLOCK],
               plan->copies[i].slots * sizeof *cache);
    for (uint32_t row = 0; row < plan->rows; row++) cache[plan->slots[row]] = plan->tokens[row];
    for (uint32_t i = 0; i < plan->sample_count; i++) {
        const quire_plan_sample *sample = &plan->samples[i];
        sampled[i] = (quire_sampled){.token = next_token(&plan->sequences[sample->entry], sample->position)};
    }
}

/* The answers, checked against the sum done directly. Returns how many requests ended. */
static uint32_t take_events(quire_planner *planner, int64_t *sums, uint32_t *wrong)
{
    quire_event event;
    uint32_t    ended = 0;
    while (quire_planner_poll(planner, &event, 1) == 1) {
        int64_t *sum = &sums[(uintptr_t)event.user_data];
        if (event.kind == QUIRE_EVENT_FINISHED) {
            const quire_finish_detail *detail = event.detail;
            printf("request %2llu: %u tokens, %u of the prompt cached, preempted %u times\n",
                   (unsigned long long)event.request, detail->output_tokens, detail->cached_tokens,
                   detail->preemptions);
            ended += event.last;
            continue;
        }
        *wrong += event.token != (int32_t)(*sum % VOCAB);
        *sum += event.token;
    }
    return ended;
}

int main(int argc, char **argv)
{
    const int                  asked    = argc > 1 ? atoi(argv[1]) : 12;
    const uint32_t             requests = asked < 1 || asked > REQUESTS ? REQUESTS : (uint32_t)asked;
    const quire_engine_options options  = {.size = sizeof options, .max_num_seqs = 8, .max_num_batched_tokens = 64};
    const quire_planner_model  model    = {.size          = sizeof model,
                                           .vocab_size    = VOCAB,
                                           .max_model_len = PROMPT + MAX_TOKENS,
                                           .num_blocks    = BLOCKS,
                                           .block_size    = BLOCK};
    quire_planner             *planner;
    quire_error                error;
    if (quire_planner_create(&options, &model, &planner, &error) != QUIRE_OK) {
        fprintf(stderr, "toy_model: %s\n", error.message);
        return 1;
    }

    int64_t sums[REQUESTS] = {0};
    for (uint32_t i = 0; i < requests; i++) {
        int32_t prompt[PROMPT];
        for (uint32_t k = 0; k < PROMPT; k++) sums[i] += prompt[k] = (int32_t)(k < 32 ? k : k * (i + 1) % VOCAB);
        const quire_request request = {.size         = sizeof request,
                                       .prompt       = prompt,
                                       .prompt_count = PROMPT,
                                       .max_tokens   = MAX_TOKENS,
                                       .user_data    = (void *)(uintptr_t)i};
        if (quire_planner_submit(planner, &request, 0, NULL, &error) != QUIRE_OK) return 1;
    }
    uint32_t wrong = 0;
    uint64_t now   = 0; /* a virtual clock: every step takes a millisecond */
    for (uint32_t ended = 0; ended < requests; ended += take_events(planner, sums, &wrong)) {
        const quire_plan *plan;
        quire_sampled     sampled[MAX_SAMPLES];
        if (quire_planner_plan(planner, now += 1000000, &plan, &error) != QUIRE_OK) return 1;
        forward(plan, sampled);
        if (quire_planner_commit(planner, sampled, plan->sample_count, now, &error) != QUIRE_OK) return 1;
    }
    printf("%u of the tokens are wrong\n", wrong);
    quire_planner_destroy(planner);
    return wrong > 0;
}
