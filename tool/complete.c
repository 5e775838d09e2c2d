/* SPDX-License-Identifier: MIT */
/* complete.c - what a shell may offer for the next word. The files in completion/ call it; people don't.
 *
 *     allot complete WORD...     the words after allot; the last one is what has been typed so far, perhaps nothing
 *
 * Answers with lines of a word, a tab and what it means. A line that begins with a colon asks the shell for its own:
 * :files, :programs, or :command N, whose N words from the front are allot's and the rest a command line of its own.
 * All that is offered comes from what the subcommands say of themselves, so that there is one list of it.
 */
#include "complete.h"
#include "options_table.h"
#include "tool.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static bool begins(const char *s, const char *beginning)
{
    return strncmp(s, beginning, strlen(beginning)) == 0;
}

static void offer(const char *typed, const char *word, const char *meaning)
{
    if (begins(word, typed)) {
        printf("%s\t%s\n", word, meaning);
    }
}

/* ---- options of a subcommand, read from its usage ----------------------------------------------------------- */

struct usage_option {
    char name[40];  /* with its dashes */
    char letter[3]; /* -o; "" when it has none */
    char value[40]; /* what it is called in the usage; "" when it takes none */
    char meaning[200];
};

/* The long option that a line of usage is about; false when it is about none. */
static bool read_usage(const char *line, size_t length, struct usage_option *out)
{
    char text[400];
    snprintf(text, sizeof text, "%.*s", (int)length, line);
    char *name = strstr(text, "--");
    if (text[0] != ' ' || name == NULL || strcspn(text, "-") != strspn(text, " ") || begins(name, "--NAME")) {
        return false;
    }
    const char *letter = text + strspn(text, " ");
    snprintf(out->letter, sizeof out->letter, "%.2s", letter[1] != '-' ? letter : "");
    char *meaning = strstr(name, "  ");
    size_t head = meaning == NULL ? strlen(name) : (size_t)(meaning - name);
    size_t name_length = strcspn(name, " \n");
    name_length = name_length > head ? head : name_length;
    snprintf(out->name, sizeof out->name, "%.*s", (int)name_length, name);
    snprintf(out->value, sizeof out->value, "%.*s", (int)(head - name_length), name + name_length);
    snprintf(out->meaning, sizeof out->meaning, "%s", meaning == NULL ? "" : meaning + strspn(meaning, " "));
    return true;
}

static void each_option(const struct command *command, void (*visit)(const struct usage_option *, void *),
                        void *context)
{
    for (const char *line = command->usage; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        struct usage_option option;
        if (read_usage(line, length, &option)) {
            visit(&option, context);
        }
        line += length + (line[length] == '\n');
    }
}

static void offer_option(const struct usage_option *option, void *typed)
{
    offer(typed, option->name, option->meaning);
}

/* Whether the word before is an option that waits for its value. */
struct question {
    const char *word;
    char value[40];
};

static void look_for_value(const struct usage_option *option, void *context)
{
    struct question *question = context;
    if (strcmp(option->name, question->word) == 0 || strcmp(option->letter, question->word) == 0) {
        memcpy(question->value, option->value, sizeof question->value);
    }
}

/* ---- the library's options, as flags ------------------------------------------------------------------------ */

static bool takes_library_options(const struct command *command)
{
    return strstr(command->usage, "--NAME=VALUE") != NULL;
}

static void offer_library_option(const char *typed, const struct option_entry *entry)
{
    char *flag = take_text("--%s%s", entry->name, strcmp(entry->kind, "bool") == 0 ? "" : "=");
    for (char *c = flag; *c != '\0'; c++) {
        *c = *c == '_' ? '-' : *c;
    }
    bool is_word = strcmp(entry->kind, "word") == 0;
    if (is_word && begins(typed, flag)) { /* the value: one of the words */
        for (const char *word = entry->unit; *word != '\0';) {
            size_t length = strcspn(word, "|");
            char *whole = take_text("%s%.*s", flag, (int)length, word);
            offer(typed, whole, entry->help);
            free(whole);
            word += length + (word[length] == '|');
        }
    } else if (strcmp(entry->name, "help") != 0) {
        offer(typed, flag, entry->help);
    }
    free(flag);
}

/* ---- words -------------------------------------------------------------------------------------------------- */

static void offer_commands(const char *typed)
{
#define COMMAND(name) offer(typed, #name, command_##name.question);
#include "commands.def"
#undef COMMAND
}

static void offer_options(const struct command *command, const char *typed)
{
    each_option(command, offer_option, (void *)(uintptr_t)typed);
    for (size_t i = 0; takes_library_options(command) && i < n_option_entries; i++) {
        offer_library_option(typed, &option_entries[i]);
    }
    offer(typed, "--help", "what it takes");
}

static void offer_values(const char *kind, const char *typed)
{
    if (strstr(kind, "FORM") != NULL) {
        offer(typed, "systemd", "a drop-in for a service");
        offer(typed, "docker", "lines for a Dockerfile");
        offer(typed, "env", "lines for a shell");
    } else if (strstr(kind, "FILE") != NULL || strstr(kind, "DIRECTORY") != NULL) {
        printf(":files\n");
    }
}

/* The first line of a process's file that contains what, without its end; NULL when there is none. */
static char *first_line_with(const char *pid, const char *name, const char *what)
{
    char path[300];
    snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t capacity = 0;
    bool found = false;
    while (file != NULL && !found && getline(&line, &capacity, file) > 0) {
        found = strstr(line, what) != NULL;
    }
    if (file != NULL) {
        fclose(file);
    }
    if (!found) {
        free(line);
        return NULL;
    }
    line[strcspn(line, "\n")] = '\0';
    return line;
}

/* The processes that allot is in, as far as the user may see that. */
static void offer_processes(const char *typed)
{
    DIR *folder = opendir("/proc");
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9' || !begins(entry->d_name, typed)) {
            continue;
        }
        char *name = first_line_with(entry->d_name, "maps", "liballot.so");
        if (name != NULL) {
            free(name);
            name = first_line_with(entry->d_name, "comm", "");
            offer(typed, entry->d_name, name == NULL ? "" : name);
        }
        free(name);
    }
    if (folder != NULL) {
        closedir(folder);
    }
}

/* How many words from the subcommand on are its own; the program that it runs comes next. words[0] is the subcommand.
 */
static int own_words(const struct command *command, int n, char **words)
{
    int i = 1;
    while (i < n && words[i][0] == '-') {
        if (strcmp(words[i], "--") == 0) {
            return i + 1;
        }
        struct question question = {.word = words[i]};
        each_option(command, look_for_value, &question);
        i += question.value[0] == '\0' ? 1 : 2;
    }
    return i;
}

static void offer_arguments(const struct command *command, int n, char **words)
{
    const char *typed = words[n - 1];
    bool runs_program = strstr(command->synopsis, "PROGRAM [ARGUMENT]") != NULL;
    int own = runs_program ? own_words(command, n - 1, words) : n;
    struct question question = {.word = words[n - 2]};
    each_option(command, look_for_value, &question);
    if (runs_program && own < n - 1) {
        printf(":command %d\n", own + 1);
    } else if (question.value[0] != '\0' && own >= n - 1) {
        offer_values(question.value, typed);
    } else if (typed[0] == '-' && own <= n) {
        offer_options(command, typed);
    } else if (strcmp(command->name, "options") == 0) {
        for (size_t i = 0; i < n_option_entries; i++) {
            offer(typed, option_entries[i].name, option_entries[i].help);
        }
    } else if (strstr(command->synopsis, "PID") != NULL) {
        offer_processes(typed);
        printf(strstr(command->synopsis, "PROGRAM") != NULL ? ":programs\n" : "");
    } else if (strstr(command->synopsis, "PROGRAM") != NULL) {
        printf(":programs\n");
    } else if (strstr(command->synopsis, "FILE") != NULL) {
        printf(":files\n");
    }
}

int complete(int n, char **words)
{
    if (n <= 1) {
        const char *typed = n == 0 ? "" : words[0];
        offer_commands(typed);
        offer(typed, "help", "all that it can do, or what one subcommand takes");
        return LEFT_WELL;
    }
    if (strcmp(words[0], "help") == 0) {
        offer_commands(n == 2 ? words[1] : "-");
        return LEFT_WELL;
    }
    const struct command *command = command_named(words[0]);
    if (command != NULL) {
        offer_arguments(command, n, words);
    }
    return LEFT_WELL;
}
