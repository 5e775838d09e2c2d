/* SPDX-License-Identifier: MIT */
/* threaded_server.c - a server with a thread for each client: answers are made by one thread and freed by another, which is
 * hard on most mallocs. For `allot explain`, `allot map` and `allot top` to look at.
 *
 *     cc threaded_server.c -lpthread -o threaded_server
 *     allot run ./threaded_server 60        for a minute; prints "ready" when the load is on
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { N_CLIENTS = 4, SHELF = 20000, QUEUE = 256 };

struct answer {
    size_t bytes;
    char text[];
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    pthread_cond_t emptied;
    struct answer *waiting[QUEUE];
    unsigned n;
    int closing;
} outgoing = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER, .emptied = PTHREAD_COND_INITIALIZER};

static void send_off(struct answer *answer)
{
    pthread_mutex_lock(&outgoing.lock);
    while (outgoing.n == QUEUE && !outgoing.closing)
        pthread_cond_wait(&outgoing.emptied, &outgoing.lock);
    if (outgoing.closing) {
        free(answer);
    } else {
        outgoing.waiting[outgoing.n++] = answer;
        pthread_cond_signal(&outgoing.filled);
    }
    pthread_mutex_unlock(&outgoing.lock);
}

static int is_closing(void)
{
    pthread_mutex_lock(&outgoing.lock);
    int closing = outgoing.closing;
    pthread_mutex_unlock(&outgoing.lock);
    return closing;
}

/* A client's thread: keeps what it was told on a shelf, and answers. */
static void *serve(void *number)
{
    unsigned seed = (unsigned)(size_t)number + 1;
    char **shelf = calloc(SHELF, sizeof *shelf);
    while (shelf != NULL && !is_closing()) {
        for (int i = 0; i < 200; i++) {
            size_t place = (size_t)rand_r(&seed) % SHELF;
            size_t bytes = 16 + (size_t)rand_r(&seed) % 500;
            free(shelf[place]);
            shelf[place] = malloc(bytes);
            if (shelf[place] != NULL)
                memset(shelf[place], 'k', bytes);
        }
        size_t bytes = 1000 + (size_t)rand_r(&seed) % 20000;
        struct answer *answer = malloc(sizeof *answer + bytes);
        if (answer != NULL) {
            answer->bytes = bytes;
            memset(answer->text, 'a', bytes);
            send_off(answer);
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    for (size_t i = 0; shelf != NULL && i < SHELF; i++)
        free(shelf[i]);
    free(shelf);
    return NULL;
}

/* The thread that sends: frees what the others made. */
static void *deliver(void *total)
{
    pthread_mutex_lock(&outgoing.lock);
    while (!outgoing.closing || outgoing.n > 0) {
        if (outgoing.n == 0) {
            pthread_cond_wait(&outgoing.filled, &outgoing.lock);
            continue;
        }
        struct answer *answer = outgoing.waiting[--outgoing.n];
        pthread_cond_signal(&outgoing.emptied);
        pthread_mutex_unlock(&outgoing.lock);
        *(size_t *)total += answer->bytes;
        free(answer);
        pthread_mutex_lock(&outgoing.lock);
    }
    pthread_mutex_unlock(&outgoing.lock);
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
    pthread_t clients[N_CLIENTS];
    pthread_t sender;
    size_t delivered = 0;
    if (pthread_create(&sender, NULL, deliver, &delivered) != 0)
        return 1;
    for (size_t i = 0; i < N_CLIENTS; i++)
        if (pthread_create(&clients[i], NULL, serve, (void *)i) != 0)
            return 1;
    usleep(300000);
    puts("ready");
    fflush(stdout);
    sleep(seconds);
    pthread_mutex_lock(&outgoing.lock);
    outgoing.closing = 1;
    pthread_cond_broadcast(&outgoing.filled);
    pthread_cond_broadcast(&outgoing.emptied);
    pthread_mutex_unlock(&outgoing.lock);
    for (size_t i = 0; i < N_CLIENTS; i++)
        pthread_join(clients[i], NULL);
    pthread_join(sender, NULL);
    printf("%zu KiB of answers\n", delivered / 1024);
    return delivered > 0 ? 0 : 1;
}
