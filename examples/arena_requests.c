/* SPDX-License-Identifier: MIT */
/* arena_requests.c - a server that gives each request an arena: whatever answering takes is gone when the answer is
 * sent, also what the request opened. A request that wants too much is refused, and the server lives on.
 *
 *     cc arena_requests.c -lpthread $(pkg-config --cflags --libs allot) -o arena_requests
 *     ./arena_requests [<requests>]
 *
 * A request is a line of words; the answer is the words, sorted.
 */
#include <allot/arena.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_REQUEST_BYTES = 64 * 1024, MOST_LINE = 4096 };

static void close_file(void *file)
{
    fclose(file);
}

/* The words of a line, in an array that grows in place as long as it is the arena's latest block. */
static char **split(allot_arena *arena, char *line, size_t *n)
{
    char **words = NULL;
    *n = 0;
    for (char *word = strtok(line, " \n"); word != NULL; word = strtok(NULL, " \n")) {
        char **more = allot_arena_realloc(arena, words, (*n + 1) * sizeof *words);
        if (more == NULL)
            return NULL;
        words = more;
        words[(*n)++] = word;
    }
    return words;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* No free anywhere, on no way out. */
static const char *answer(allot_arena *arena, const char *request)
{
    size_t n;
    char *line = allot_arena_strdup(arena, request);
    FILE *log = tmpfile(); /* what else belongs to the request ends with it, too */
    if (line == NULL || log == NULL || allot_arena_cleanup_add(arena, close_file, log) != 0)
        return "busy\n";
    fprintf(log, "%s", request);
    char **words = split(arena, line, &n);
    if (words == NULL)
        return n == 0 ? "nothing\n" : "too much\n";
    qsort(words, n, sizeof *words, by_text);
    char *text = allot_arena_malloc(arena, strlen(request) + 2);
    if (text == NULL)
        return "too much\n";
    char *end = text;
    for (size_t i = 0; i < n; i++)
        end += sprintf(end, "%s%c", words[i], i + 1 == n ? '\n' : ' ');
    return text;
}

static void *serve(void *connection)
{
    FILE *stream = fdopen(*(int *)connection, "r+");
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    allot_arena *arena;
    char line[MOST_LINE];
    options.name = "request";
    options.kind = ALLOT_ARENA_BUMP;
    options.flags = ALLOT_ARENA_UNSYNCHRONIZED;
    options.hard_limit = MOST_REQUEST_BYTES;
    if (stream == NULL || allot_arena_create(4096, &options, &arena) != 0)
        return NULL;
    while (fgets(line, sizeof line, stream) != NULL) {
        fseek(stream, 0, SEEK_CUR);
        fputs(answer(arena, line), stream);
        fflush(stream);
        allot_arena_reset(arena); /* the memory stays for the next one */
    }
    allot_arena_destroy(arena);
    fclose(stream);
    return arena;
}

int main(int argc, char **argv)
{
    int ends[2];
    pthread_t server;
    int n = argc > 1 ? atoi(argv[1]) : 200;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 || pthread_create(&server, NULL, serve, &ends[1]) != 0)
        return 1;
    FILE *client = fdopen(ends[0], "r+");
    char got[MOST_LINE];
    int wrong = client == NULL;
    for (int i = 0; i < n && !wrong; i++) {
        char expected[100];
        fprintf(client, "pear fig-%03d apple\n", i);
        fflush(client);
        fseek(client, 0, SEEK_CUR);
        snprintf(expected, sizeof expected, "apple fig-%03d pear\n", i);
        wrong = fgets(got, sizeof got, client) == NULL || strcmp(got, expected) != 0;
        fseek(client, 0, SEEK_CUR);
    }
    if (client != NULL)
        fclose(client);
    void *arena_was_there;
    pthread_join(server, &arena_was_there);
    printf("%d requests, %s\n", n, wrong ? "a wrong answer" : "all answered");
    return wrong || arena_was_there == NULL;
}
