/* What meeting costs: the team's barrier, and handing a function over to the team, which a step does once. */
#include "base/clock.h"
#include "base/error.h"
#include "base/median.h"
#include "bench/micro/variants.h"

enum { BARRIERS = 10000, HAND_OVERS = 1000, SAMPLES = 15 };

static void pass_barriers(void *context, uint32_t thread, uint32_t thread_count)
{
    const qr_machine *machine = context;
    (void)thread, (void)thread_count;
    for (int i = 0; i < BARRIERS; i++) qr_team_barrier(machine->team);
}

static void do_nothing(void *context, uint32_t thread, uint32_t thread_count)
{
    (void)context, (void)thread, (void)thread_count;
}

/* From outside the team, so not a variant that the team runs. */
static double hand_over_seconds(const qr_machine *machine, uint32_t rounds)
{
    double samples[QR_ROUNDS_MAX];
    for (uint32_t r = 0; r < rounds; r++) {
        const uint64_t start = qr_now_ns();
        for (int i = 0; i < HAND_OVERS; i++) qr_team_run(machine->team, do_nothing, NULL);
        samples[r] = (double)(qr_now_ns() - start) * 1e-9 / HAND_OVERS;
    }
    return qr_median(samples, rounds);
}

static quire_status run(qr_machine *machine, const qr_micro_options *options, FILE *out, quire_error *error)
{
    const uint32_t rounds      = options->rounds ? options->rounds : SAMPLES;
    qr_variant     variants[2] = {{.name = "barrier", .run = pass_barriers, .context = machine},
                                  {.name = "function handed over to the team and back"}};
    qr_variants    all         = {.machine = machine, .variant = variants, .count = 1};
    QR_TRY(qr_variants_run(&all, rounds, error));
    variants[0].seconds /= BARRIERS;
    variants[1].seconds = hand_over_seconds(machine, rounds);
    all.count           = 2;
    for (int i = 0; i < 2; i++)
        snprintf(variants[i].note, sizeof variants[i].note, "%.0f ns", variants[i].seconds * 1e9);
    return qr_variants_report(&all, "barrier", options->json, out, error);
}

int qr_micro_barrier(const qr_micro_options *options, FILE *out) { return qr_micro_on_machine(options, run, out); }
