/* quire: dispatch to the subcommands. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/output.h"
#include "topology/affinity.h"

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"generate", qr_command_generate, "decode requests from JSON Lines to JSON Lines"},
    {"bench", qr_command_bench, "run a workload on an engine; print a table, write result files"},
    {"sweep", qr_command_sweep,
     "measure every combination of [sweep]; --capacity: find the highest rate that meets [slo]"},
    {"compare", qr_command_compare, "compare two results: ratios with intervals, and a gate against regressions"},
    {"perplexity", qr_command_perplexity, "measure how well a model predicts a text"},
    {"report", qr_command_report, "make one HTML page from result files"},
    {"kernel", qr_command_kernel, "micro-benchmarks: attention, barrier, limits, projection, rowwise, scheduler, step"},
    {"workload", qr_command_workload, "describe a workload or a trace, or write it as a trace"},
    {"replicas", qr_command_replicas, "simulate replicas of an engine behind a router, on the virtual clock"},
    {"topo", qr_command_topo, "show the machine, the allowed CPUs and where threads would run"},
    {"models", qr_command_models, "list the models that can be loaded, and the presets"},
    {"shapes", qr_command_shapes, "show the shape of every matrix product of a model, step by step"},
    {"check", qr_command_check, "check a configuration and a model; forecast the memory"},
    {"config", qr_command_config, "print the effective configuration, or a template of every key"},
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static void help(FILE *to)
{
    fputs("Usage: quire COMMAND [OPTION...]\n"
          "Decodes many transformer sequences together on CPUs.\n\n",
          to);
    for (size_t i = 0; i < COMMAND_COUNT; i++) fprintf(to, "  %-11s %s\n", commands[i].name, commands[i].help);
    fputs("  serve       answer OpenAI's HTTP interface; runs quire-serve of the Python package\n"
          "\n"
          "  quire generate --model FOLDER < requests.jsonl > answers.jsonl\n"
          "  quire COMMAND --help\n"
          "  quire --version\n\n"
          "Exit status: 0 done; 1 a run, a file or a request failed; 2 usage or "
          "configuration; 3 a target was missed;\n"
          "4 an invalid result; 130 interrupted.\n",
          to);
}

static int version(void)
{
    const unsigned number = quire_version();
    fprintf(qr_stdout, "quire %u.%u.%u, git %s\n%s\n", number / 1000000, number / 1000 % 1000, number % 1000,
            qr_tool_revision, quire_build_info());
    return QR_EXIT_OK;
}

static int dispatch(const struct command *command, int argc, char **argv)
{
    char name[64];
    snprintf(name, sizeof name, "quire %s", command->name);
    argv[1] = name;
    return command->run(argc - 1, argv + 1);
}

/* The server is a program of the Python package. */
static int serve(char **argv)
{
    if (getenv("QUIRE_COMPLETE") != NULL) return QR_EXIT_OK;
    execvp("quire-serve", argv + 1);
    qr_complain("serve: cannot run quire-serve of the Python package: %s; docs/SERVING.md says how to install it",
                strerror(errno));
    return QR_EXIT_USAGE;
}

/* The next file opened would get the number of a closed standard descriptor: a model would be read as requests, a log
 * would land among the answers. Opened the wrong way round, so that using it is an error and nothing is lost silently.
 */
static void fill_standard_descriptors(void)
{
    for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; descriptor++)
        if (fcntl(descriptor, F_GETFD) < 0 && errno == EBADF)
            (void)open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        help(stderr);
        return QR_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0 || strcmp(argv[1], "help") == 0) {
        help(qr_stdout);
        return QR_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) return version();
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return dispatch(&commands[i], argc, argv);
    qr_complain("%s: unknown command; see quire --help", argv[1]);
    return QR_EXIT_USAGE;
}

__attribute__((section(".preinit_array"), used)) static void (*const before_openmp)(void) = qr_affinity_remember;

/* OMP_PROC_BIND and its like bind the first thread while the OpenMP library loads, and all others would inherit it. */
static void undo_binding(void)
{
    qr_cpu_set cpus;
    if (qr_affinity_at_start(&cpus)) qr_affinity_set(&cpus);
}

/* Without memory Jansson leaves out what it should read or write, takes a text for malformed, or aborts. */
static void *allocate_json(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL) qr_out_of_memory();
    return memory;
}

/* argp ends the process itself after --help. */
static void end(int status, void *unused)
{
    (void)unused;
    if (!ferror(qr_stdout) && fflush(qr_stdout) == 0) return;
    qr_complain("standard output: cannot be written");
    if (status == QR_EXIT_OK) _exit(QR_EXIT_FAILED);
}

int main(int argc, char **argv)
{
    undo_binding();
    signal(SIGXFSZ, SIG_IGN); /* a file beyond its limit is an error of the write */
    fill_standard_descriptors();
    if (argc > 1 && strcmp(argv[1], "serve") == 0) return serve(argv);
    qr_stdout_take();
    json_set_alloc_funcs(allocate_json, free);
    argp_err_exit_status = QR_EXIT_USAGE;
    if (on_exit(end, NULL) != 0) return qr_complain("out of memory"), QR_EXIT_FAILED;
    return run(argc, argv);
}
