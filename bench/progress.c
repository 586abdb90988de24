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

void qr_progress_show(qr_progress *progress, const quire_engine *engine, int64_t now_ns, uint32_t done, uint32_t total,
                      bool warm)
{
    const int64_t elapsed = now_ns - progress->shown_ns;
    if (progress->mode == QR_PROGRESS_NONE || elapsed < interval_ns[progress->mode]) return;
    quire_stats stats = {.size = sizeof stats};
    quire_engine_stats(engine, &stats);
    const double rate   = (double)(stats.tokens_output - progress->tokens) / ((double)elapsed * 1e-9);
    const double used   = stats.blocks ? 100.0 * (double)stats.blocks_used / (double)stats.blocks : 0;
    const char  *phase  = warm ? "measuring" : "warming up";
    char         of[16] = "", left[32] = "";
    progress->rate = progress->shown_ns == 0 ? rate : 0.7 * progress->rate + 0.3 * rate;
    if (total != UINT32_MAX) snprintf(of, sizeof of, "/%u", total);
    if (total != UINT32_MAX && done > 0)
        snprintf(left, sizeof left, "  about %.0f s left", (double)now_ns * 1e-9 / done * (total - done));
    if (progress->mode == QR_PROGRESS_JSONL)
        fprintf(stderr,
                "{\"t_s\": %.1f, \"phase\": \"%s\", \"done\": %u, \"running\": %u, \"waiting\": %u, "
                "\"output_tokens_per_s\": %.1f, \"kv_usage\": %.3f}\n",
                (double)now_ns * 1e-9, phase, done, stats.running, stats.waiting, progress->rate, used / 100);
    else
        fprintf(stderr, "%s[%u] %4.0f s  %s  done %u%s  running %u  waiting %u  %.1f tok/s  KV %.0f %%%s%s",
                progress->mode == QR_PROGRESS_TTY ? "\r\033[K" : "", progress->repetition + 1, (double)now_ns * 1e-9,
                phase, done, of, stats.running, stats.waiting, progress->rate, used, left,
                progress->mode == QR_PROGRESS_TTY ? "" : "\n");
    progress->shown_ns = now_ns;
    progress->tokens   = stats.tokens_output;
}

void qr_progress_end(qr_progress *progress)
{
    if (progress->mode == QR_PROGRESS_TTY && progress->shown_ns > 0) fprintf(stderr, "\r\033[K");
}
