/* One line from the statistics, as often as suits where it goes. */
#include "bench/run/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const int64_t interval_ns[] = {0, 250000000, 10000000000, 1000000000}; /* by mode */

void qr_progress_init(qr_progress *progress, const quire_config *config, uint32_t repetition)
{
    const char *mode = quire_config_string(config, "output.progress");
    *progress        = (qr_progress){.mode = QR_PROGRESS_PLAIN, .repetition = repetition};
    if (mode == NULL || strcmp(mode, "auto") == 0)
        progress->mode = isatty(2) ? QR_PROGRESS_TTY : QR_PROGRESS_PLAIN;
    else if (strcmp(mode, "tty") == 0)
        progress->mode = QR_PROGRESS_TTY;
    else if (strcmp(mode, "jsonl") == 0)
        progress->mode = QR_PROGRESS_JSONL;
    else if (strcmp(mode, "none") == 0)
        progress->mode = QR_PROGRESS_NONE;
}

bool qr_progress_is_due(const qr_progress *progress, int64_t wall_ns)
{
    return progress->mode != QR_PROGRESS_NONE && wall_ns - progress->shown_wall_ns >= interval_ns[progress->mode];
}

/* Seconds of the wall's clock, from the requests still to end and the window still to pass, whichever is sooner. NAN:
 * nothing is known. */
static double seconds_left(const qr_progress_state *state)
{
    const double wall_s = (double)state->wall_ns * 1e-9, now_ns = (double)state->now_ns;
    double       left = NAN;
    if (state->total != UINT32_MAX && state->done > 0) left = wall_s / state->done * (state->total - state->done);
    if (state->end_ns > state->now_ns && now_ns > 0)
        left = fmin(left, wall_s * ((double)state->end_ns - now_ns) / now_ns);
    return left;
}

/* A longer line would wrap, and could not be drawn over. */
static int columns_of_terminal(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 200;
}

static void show_line(const qr_progress *progress, const quire_stats *stats, const qr_progress_state *state,
                      const char *phase, double used)
{
    char         line[256], of[16] = "", left[32] = "", inside[96] = "", cache[16] = "";
    const double left_s = seconds_left(state);
    if (state->total != UINT32_MAX) snprintf(of, sizeof of, "/%u", state->total);
    if (!isnan(left_s)) snprintf(left, sizeof left, "  %.0f s left", left_s);
    if (stats->blocks > 0) { /* a server tells neither */
        snprintf(inside, sizeof inside, "  waiting %u  prefilled %llu tok", stats->waiting,
                 (unsigned long long)stats->tokens_prompt);
        snprintf(cache, sizeof cache, "  KV %.0f %%", 100 * used);
    }
    snprintf(line, sizeof line, "[%u] %.0f s  %s  done %u%s  running %u%s  %.1f tok/s%s%s", progress->repetition + 1,
             (double)state->now_ns * 1e-9, phase, state->done, of, stats->running, inside, progress->rate, cache, left);
    if (progress->mode == QR_PROGRESS_TTY)
        fprintf(stderr, "\r\033[K%.*s", columns_of_terminal(), line);
    else
        fprintf(stderr, "%s\n", line);
}

static const char *phase_of(const qr_progress_state *state)
{
    if (!state->warm) return "warming up";
    if (state->closed) return "waiting for running requests"; /* run.grace */
    return state->is_virtual ? "simulating" : "measuring";
}

void qr_progress_show(qr_progress *progress, const quire_stats *stats, const qr_progress_state *state)
{
    const double elapsed_s = (double)(state->now_ns - progress->shown_ns) * 1e-9;
    const double rate      = elapsed_s > 0 ? (double)(stats->tokens_output - progress->tokens) / elapsed_s : 0;
    const double total = (double)stats->kv_cache_bytes, used = total > 0 ? (double)stats->kv_used_bytes / total : 0;
    const char  *phase = phase_of(state);
    progress->rate     = progress->shown_ns == 0 ? rate : 0.7 * progress->rate + 0.3 * rate;
    if (progress->mode == QR_PROGRESS_JSONL) {
        fprintf(stderr, "{\"t_s\": %.1f, \"phase\": \"%s\", \"done\": %u, \"running\": %u, ",
                (double)state->now_ns * 1e-9, phase, state->done, stats->running);
        if (stats->blocks > 0)
            fprintf(stderr, "\"waiting\": %u, \"prompt_tokens\": %llu, \"kv_usage\": %.3f, ", stats->waiting,
                    (unsigned long long)stats->tokens_prompt, used);
        fprintf(stderr, "\"output_tokens_per_s\": %.1f}\n", progress->rate);
    } else
        show_line(progress, stats, state, phase, used);
    progress->shown_ns      = state->now_ns;
    progress->shown_wall_ns = state->wall_ns;
    progress->tokens        = stats->tokens_output;
}

/* The first line of the phase comes at once, where the run was long enough for others. */
void qr_progress_show_verification(qr_progress *progress, int64_t wall_ns, uint32_t done, uint32_t total)
{
    const double seconds = (double)wall_ns * 1e-9;
    if (progress->mode == QR_PROGRESS_NONE) return;
    if (!qr_progress_is_due(progress, wall_ns) && (done > 0 || progress->shown_ns == 0)) return;
    progress->shown_wall_ns = wall_ns;
    if (progress->mode == QR_PROGRESS_JSONL)
        fprintf(stderr, "{\"t_s\": %.1f, \"phase\": \"verifying\", \"done\": %u, \"total\": %u}\n", seconds, done,
                total);
    else
        fprintf(stderr,
                progress->mode == QR_PROGRESS_TTY ? "\r\033[K[%u] %.0f s  verifying %u of %u"
                                                  : "[%u] %.0f s  verifying %u of %u\n",
                progress->repetition + 1, seconds, done, total);
}

void qr_progress_end(qr_progress *progress)
{
    if (progress->mode == QR_PROGRESS_TTY && progress->shown_ns > 0) fprintf(stderr, "\r\033[K");
}
