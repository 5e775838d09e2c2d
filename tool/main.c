/* SPDX-License-Identifier: MIT */
/* main.c - the allot command: finds the subcommand, and says which there are. */
#include "complete.h"
#include "tool.h"

#include <allot/allot.h>
#include <string.h>

#define TEXT_OF(x) TEXT_OF_(x)
#define TEXT_OF_(x) #x
#define VERSION TEXT_OF(ALLOT_VERSION_MAJOR) "." TEXT_OF(ALLOT_VERSION_MINOR) "." TEXT_OF(ALLOT_VERSION_PATCH)

static const struct command *const commands[] = {
#define COMMAND(name) &command_##name,
#include "commands.def"
#undef COMMAND
};

#define N_COMMANDS (sizeof commands / sizeof commands[0])

const struct command *command_named(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i]->name, name) == 0) {
            return commands[i];
        }
    }
    return NULL;
}

static int print_examples(void)
{
    static const char *const examples[][2] = {
        {"allot run PROGRAM", "run a program on allot"},
        {"allot check PROGRAM", "find its heap bugs"},
        {"allot explain PID", "why does it take so much memory?"},
        {"allot map PID -o heap.svg", "a picture of its heap"},
        {"allot bench -- PROGRAM", "is it faster, is it smaller?"},
    };
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++) {
        int columns = printf("  %-27s", examples[i][0]);
        print_wrapped(stdout, (size_t)columns, 6, examples[i][1]);
    }
    printf("\nThe rest: allot help\n");
    return LEFT_WELL;
}

static int print_help(const char *name)
{
    if (name != NULL) {
        const struct command *command = command_named(name);
        if (command == NULL) {
            return misused("there is no subcommand \"%s\"", name);
        }
        command_print_help(stdout, command);
        return LEFT_WELL;
    }
    printf("allot SUBCOMMAND [ARGUMENT]...\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        printf("  %-9s", commands[i]->name);
        print_wrapped(stdout, 11, 13, commands[i]->question);
    }
    printf("\n");
    print_wrapped(stdout, 0, 0,
                  "allot help SUBCOMMAND tells its options, man allot-SUBCOMMAND all of it. Each takes --json. "
                  "allot --version names the version.");
    return LEFT_WELL;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        return print_examples();
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        return print_help(argv[2]);
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("allot " VERSION "\n");
        return LEFT_WELL;
    }
    if (strcmp(argv[1], "complete") == 0) {
        return complete(argc - 2, argv + 2);
    }
    const struct command *command = command_named(argv[1]);
    if (command == NULL) {
        return misused("there is no subcommand \"%s\"", argv[1]);
    }
    command_begin(command);
    return command->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    leave(run(argc, argv));
}
