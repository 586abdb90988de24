/* A line becomes a job; the library's refusal of one becomes an answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/job.h"

qr_job *qr_job_parse(const char *line, size_t length, uint64_t number, const qr_request_defaults *defaults,
                     qr_line_error *error_out)
{
    qr_job *job = calloc(1, sizeof *job);
    if (job == NULL) return NULL;
    qr_request_line_read(line, length, number, defaults, &job->from, error_out);
    const uint32_t n            = job->from.request.n;
    job->from.request.user_data = job;
    if (error_out->status == QUIRE_OK) job->sequence_count = n > 0 ? n : 1; /* of beams, the n best come back */
    return job;
}

/* The members of quire_request that have another name in a line. */
static const char *line_name(const char *member)
{
    static const char *const names[][2] = {
        {"prompt_count", "prompt"},
        {"encoder_count", "encoder_input"},
        {"encoder_frames", "encoder_features"},
        {"stop_count", "stop_token_ids"},
        {"stop", "stop_token_ids"},
        {"allowed", "allowed_token_ids"},
        {"allowed_count", "allowed_token_ids"},
        {"banned", "banned_token_ids"},
        {"banned_count", "banned_token_ids"},
        {"logit_bias_count", "logit_bias"},
        {"timeout_ns", "timeout_ms"},
        {"first_banned", "first_banned_token_ids"},
        {"first_banned_count", "first_banned_token_ids"},
        {"first_allowed", "first_allowed_token_ids"},
        {"first_allowed_count", "first_allowed_token_ids"},
        {"last_allowed", "last_allowed_token_ids"},
        {"last_allowed_count", "last_allowed_token_ids"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i][0], member) == 0) return names[i][1];
    return member;
}

/* "top_p: ..." and "prompt[3]: ..." begin with a field. What needs more blocks than there are has none. */
void qr_job_error_of(const quire_error *error, qr_line_error *error_out)
{
    const char  *message = error->message[0] != '\0' ? error->message : quire_status_text(error->status);
    char         member[sizeof error_out->field];
    const size_t name    = strspn(message, "abcdefghijklmnopqrstuvwxyz_");
    *error_out           = (qr_line_error){.status = error->status};
    const char *rest     = message + name;
    const bool  of_field = error->status == QUIRE_ERR_INVALID || error->status == QUIRE_ERR_TOO_LONG;
    if (of_field && name > 0 && name < sizeof member && (*rest == ':' || *rest == '[')) {
        snprintf(member, sizeof member, "%.*s", (int)name, message);
        snprintf(error_out->field, sizeof error_out->field, "%s", line_name(member));
        message = rest + (*rest == ':' ? 1 : 0);
        while (*message == ' ') message++;
    }
    snprintf(error_out->message, sizeof error_out->message, "%s", message);
}
