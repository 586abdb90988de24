/* See progress.h. */
#include "bench/progress.h"

#include <stdio.h>
#include <string.h>
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

void qr_progress_show(qr_progress *progress, const quire_stats *stats, const qr_progress_state *state)
{
    const double elapsed_s = (double)(state->now_ns - progress->shown_ns) * 1e-9, now_s = (double)state->now_ns * 1e-9;
    const double rate   = elapsed_s > 0 ? (double)(stats->tokens_output - progress->tokens) / elapsed_s : 0;
    const double used   = stats->blocks ? 100.0 * (double)stats->blocks_used / (double)stats->blocks : 0;
    const char  *phase  = !state->warm ? "warming up" : state->is_virtual ? "simulating" : "measuring";
    char         of[16] = "", left[32] = "";
    progress->rate = progress->shown_ns == 0 ? rate : 0.7 * progress->rate + 0.3 * rate;
    if (state->total != UINT32_MAX) snprintf(of, sizeof of, "/%u", state->total);
    if (state->total != UINT32_MAX && state->done > 0)
        snprintf(left, sizeof left, "  about %.0f s left",
                 (double)state->wall_ns * 1e-9 / state->done * (state->total - state->done));
    if (progress->mode == QR_PROGRESS_JSONL)
        fprintf(stderr,
                "{\"t_s\": %.1f, \"phase\": \"%s\", \"done\": %u, \"running\": %u, \"waiting\": %u, "
                "\"output_tokens_per_s\": %.1f, \"kv_usage\": %.3f}\n",
                now_s, phase, state->done, stats->running, stats->waiting, progress->rate, used / 100);
    else
        fprintf(stderr, "%s[%u] %4.0f s  %s  done %u%s  running %u  waiting %u  %.1f tok/s  KV %.0f %%%s%s",
                progress->mode == QR_PROGRESS_TTY ? "\r\033[K" : "", progress->repetition + 1, now_s, phase,
                state->done, of, stats->running, stats->waiting, progress->rate, used, left,
                progress->mode == QR_PROGRESS_TTY ? "" : "\n");
    progress->shown_ns      = state->now_ns;
    progress->shown_wall_ns = state->wall_ns;
    progress->tokens        = stats->tokens_output;
}

void qr_progress_end(qr_progress *progress)
{
    if (progress->mode == QR_PROGRESS_TTY && progress->shown_ns > 0) fprintf(stderr, "\r\033[K");
}
