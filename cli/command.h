/* The subcommands of `quire`, and what they share: options, configuration, exit status.
 *
 * A flag is an alias of a configuration key. Flags and --set are collected as assignments while argp parses, and
 * applied in their order over the file and the environment, so that the origin of every value is known. */
#ifndef QR_COMMAND_H
#define QR_COMMAND_H

#include <argp.h>
#include <stdbool.h>
#include <stdio.h>

#include "quire/quire.h"

/* Of every command; the manual page has them too. */
enum {
    QR_EXIT_OK          = 0,
    QR_EXIT_FAILED      = 1, /* a run, a file or a request failed */
    QR_EXIT_USAGE       = 2, /* the command line or the configuration */
    QR_EXIT_MISSED      = 3, /* min_attainment or --max-regression */
    QR_EXIT_INVALID     = 4, /* a result that must not be believed, with on_invalid = "fail" */
    QR_EXIT_INTERRUPTED = 130,
};

/* The commit that the tool was built from, "-dirty" behind it where sources differed, or "unknown". */
extern const char *const qr_tool_revision;

/* argv[0] is "quire NAME". Each returns an exit status. */
int qr_command_bench(int argc, char **argv);
int qr_command_compare(int argc, char **argv);
int qr_command_sweep(int argc, char **argv);
int qr_command_generate(int argc, char **argv);
int qr_command_perplexity(int argc, char **argv);
int qr_command_report(int argc, char **argv);
int qr_command_kernel(int argc, char **argv);
int qr_command_topo(int argc, char **argv);
int qr_command_check(int argc, char **argv);
int qr_command_config(int argc, char **argv);
int qr_command_replicas(int argc, char **argv);
int qr_command_workload(int argc, char **argv);
int qr_command_models(int argc, char **argv);
int qr_command_shapes(int argc, char **argv);

/* Results. `stdout` is standard error from the start of main(): what libraries print must not come among the answers.
 */
extern FILE *qr_stdout;

/* ---- options that every command has ---- */

enum { QR_MAX_ASSIGNMENTS = 256 };

typedef struct qr_assignment {
    char *origin; /* "--set", "--model" */
    char *key;    /* NULL: of --set, whose value is "section.key=value" */
    char *value;
} qr_assignment;

typedef struct qr_arguments {
    const char              *config_path; /* --config, or NULL */
    qr_assignment            assignments[QR_MAX_ASSIGNMENTS];
    unsigned                 assignment_count;
    bool                     print_config, dry_run;
    int                      argc; /* of the command, for its results */
    char                   **argv;
    const struct qr_default *defaults; /* [default_count] what a command does without a model; NULL: an error */
    size_t                   default_count;
} qr_arguments;

/* argp_parse() with what every command has: --config, --set, --model, --print-config, an alias for every key of the
 * table, and the configuration as the argument. These are the child behind those of argp->children, whose
 * options go before theirs. In ARGP_KEY_INIT argp->parser sets child_inputs of all to the qr_arguments; NULL stands for
 * qr_parse_common, which does it for a command without children of its own. */
void    qr_parse(const struct argp *argp, int argc, char **argv, void *input);
error_t qr_parse_common(int option, char *value, struct argp_state *state); /* input = the qr_arguments */

/* The flags of workload, load and run, for the commands that measure. Its input is the qr_arguments*. */
extern const struct argp qr_workload_argp;

/* The flag that is the alias of a key, "--max-num-seqs": `brief` has the last word alone, where that names one key. */
bool qr_flag_name(const quire_config_key *key, bool brief, char *name_out, size_t size);

/* Answers the shell when it asks (QUIRE_COMPLETE) for the flags of this command or the words that may follow one, and
 * ends the process; else does nothing. qr_parse() does this. */
void qr_complete(const struct argp *argp);

/* A value for a key that nobody set, when no model is named. */
typedef struct qr_default {
    const char *key, *value;
    const char *probe; /* the key whose origin says whether somebody set it */
} qr_default;

/* Sets a key for a flag: text as it is, other values as TOML (quire_config_set_value). Ends the process with usage
 * status when there are too many. */
void qr_arguments_set(qr_arguments *arguments, const char *origin, const char *key, const char *value);

/* Sets the key that stands in brackets at the end of a flag's help, "... [topology.threads]", to `value`.
 * ARGP_ERR_UNKNOWN: `option` is none of `options`, or its help names no key. */
error_t qr_parse_alias(const struct argp_option *options, int option, const char *value, qr_arguments *arguments);

/* A whole number in least..most; else argp_error(), which names the flag, the value and the range. */
long qr_parse_number(struct argp_state *state, const char *flag, const char *value, long least, long most);

/* The file that is read, or NULL: --config, or QUIRE_CONFIG. */
const char *qr_arguments_config_path(const qr_arguments *arguments);

/* The effective configuration: built-in < file < environment < assignments, checked. On failure prints the error and
 * returns NULL; out of memory, it ends the process. */
quire_config *qr_arguments_load(const qr_arguments *arguments);
void          qr_arguments_deinit(qr_arguments *arguments);

/* The same with more assignments "key=value" behind them all, whose origin is `origin`. */
quire_config *qr_arguments_load_with(const qr_arguments *arguments, const char *origin, char *const *assignments,
                                     size_t count);

/* An empty result of `config` that knows its command, for qr_result_destroy(). NULL: no memory, which is said. */
struct qr_result *qr_arguments_result(const qr_arguments *arguments, const quire_config *config);

/* On stdout; gives the exit status. */
int qr_print_config(const quire_config *config, quire_print how);

/* Loads the configuration, answers --print-config or runs `body`, and releases all. Gives the exit status. */
typedef int qr_body(void *context, const quire_config *config);
int         qr_arguments_run(qr_arguments *arguments, qr_body *body, void *context);

/* ---- messages ---- */

/* "quire: error: ..." on stderr. */
void qr_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
void qr_warn(const char *format, ...) __attribute__((format(printf, 1, 2))); /* likewise, "quire: warning: " */

/* Says so, and ends the process with QR_EXIT_FAILED. Needs no memory. Thread: any. */
_Noreturn void qr_out_of_memory(void);

/* What is known to disturb a measurement (governor, variables that contradict [topology]), unless output.log_level is
 * error; results have it as context.warnings. */
void qr_warn_of_machine(const quire_config *config);

/* What a library call's status means as the tool's. */
int qr_exit_status(quire_status status);

/* Prints the error of a library call and gives the exit status that it means. */
int qr_report_error(const quire_error *error);

/* "ERR_INVALID". */
const char *qr_status_name(quire_status status);

/* The logger of [output] log_level (QUIRE_LOG goes before it), on stderr. */
quire_logger qr_logger_of(const quire_config *config);

#endif
