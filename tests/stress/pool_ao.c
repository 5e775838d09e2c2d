/* SPDX-License-Identifier: MIT */
/* pool_ao.c - AO_malloc and the AO stack as their users use them: threads that build lists and turn them round by
 * allocating every node anew, large blocks held two at a time, and a stack whose elements go round among threads.
 * Speaks the documented interface alone, so it can be linked with the other library as well.
 *
 *     pool_ao [threads [turns]]
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_ops_malloc.h"

#ifndef AO_MALLOC_IS_LOCK_FREE
#error "AO_MALLOC_IS_LOCK_FREE tells programs that no restrictions apply"
#endif

#define LENGTH 1000
#define LARGE 200000

static unsigned n_threads = 16;
static unsigned n_turns = 1000;

static void die(const char *what)
{
    fprintf(stderr, "FAILED: %s\n", what);
    exit(3);
}

struct node {
    struct node *next;
    size_t value;
    int odd[];
};

static struct node *node_new(size_t value, struct node *next)
{
    size_t extra = value * 7919 % 101;
    struct node *node = AO_malloc(sizeof *node + extra * sizeof(int));
    if (node == NULL || (size_t)node % 16 != 0) {
        die("a node was refused or not aligned");
    }
    node->next = next;
    node->value = value;
    for (size_t i = 0; i < extra; i++) {
        node->odd[i] = (int)value;
    }
    return node;
}

static void node_check_and_free(struct node *node)
{
    size_t extra = node->value * 7919 % 101;
    for (size_t i = 0; i < extra; i++) {
        if (node->odd[i] != (int)node->value) {
            die("a node was written to");
        }
    }
    AO_free(node);
}

static struct node *turn_round(struct node *list)
{
    struct node *result = NULL;
    while (list != NULL) {
        struct node *next = list->next;
        result = node_new(list->value, result);
        node_check_and_free(list);
        list = next;
    }
    return result;
}

static void check_order(const struct node *list, int upwards)
{
    for (size_t i = 0; i < LENGTH; i++, list = list->next) {
        if (list == NULL || list->value != (upwards ? i : LENGTH - 1 - i)) {
            die("a list lost its order");
        }
    }
    if (list != NULL) {
        die("a list grew");
    }
}

static void large_check(char *block, char fill)
{
    if (block[0] != fill || block[LARGE / 2] != fill || block[LARGE - 1] != fill) {
        die("a large block was written to");
    }
}

static void large_two_at_a_time(char fill)
{
    char *a = AO_malloc(LARGE);
    char *b = AO_malloc(LARGE);
    if (a == NULL || b == NULL) {
        die("a large block was refused");
    }
    a[0] = a[LARGE / 2] = a[LARGE - 1] = fill;
    b[0] = b[LARGE / 2] = b[LARGE - 1] = (char)~fill;
    large_check(a, fill);
    AO_free(a);
    large_check(b, (char)~fill);
    AO_free(b);
}

static void *lists(void *context)
{
    struct node *list = NULL;
    for (size_t i = 0; i < LENGTH; i++) {
        list = node_new(LENGTH - 1 - i, list);
    }
    for (unsigned turn = 0; turn < n_turns; turn++) {
        list = turn_round(list);
        if (turn % 100 == 0) {
            large_two_at_a_time((char)(size_t)context);
        }
    }
    check_order(list, n_turns % 2 == 0);
    while (list != NULL) {
        struct node *next = list->next;
        node_check_and_free(list);
        list = next;
    }
    return NULL;
}

/* ---- the stack ---------------------------------------------------------------------------------------------- */

#define N_ELEMENTS 200

struct element {
    AO_t link;
    size_t number;
    volatile int taken;
};

static AO_stack_t stack = AO_STACK_INITIALIZER;

static void *shuffle(void *context)
{
    unsigned seed = (unsigned)(size_t)context;
    for (unsigned i = 0; i < n_turns * 300; i++) {
        struct element *held[8];
        unsigned n = 0;
        for (unsigned want = rand_r(&seed) % 8; n < want; n++) {
            held[n] = (struct element *)(void *)AO_stack_pop(&stack);
            if (held[n] == NULL) {
                break;
            }
            if (held[n]->taken++ != 0) {
                die("an element is with two threads");
            }
        }
        while (n > 0) {
            held[--n]->taken--;
            AO_stack_push(&stack, &held[n]->link);
        }
    }
    return NULL;
}

static void with_threads(void *(*body)(void *), unsigned n)
{
    pthread_t threads[64];
    for (size_t i = 0; i < n; i++) {
        if (pthread_create(&threads[i], NULL, body, (void *)(i + 1)) != 0) {
            die("no thread");
        }
    }
    for (size_t i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void stack_test(unsigned n)
{
    static struct element elements[N_ELEMENTS];
    static char seen[N_ELEMENTS];
    AO_stack_init(&stack);
    memset(seen, 0, sizeof seen);
    for (size_t i = 0; i < N_ELEMENTS; i++) {
        elements[i].number = i;
        AO_stack_push_release(&stack, &elements[i].link);
    }
    size_t walked = 0;
    for (AO_t *link = AO_REAL_HEAD_PTR(stack); link != NULL; link = AO_REAL_NEXT_PTR(*link)) {
        walked++;
    }
    if (walked != N_ELEMENTS) {
        die("a walk finds another number of elements");
    }
    with_threads(shuffle, n);
    for (size_t i = 0; i < N_ELEMENTS; i++) {
        struct element *element = (struct element *)(void *)AO_stack_pop_acquire(&stack);
        if (element == NULL || seen[element->number]++ != 0) {
            die("an element was lost or doubled");
        }
    }
    if (AO_stack_pop(&stack) != NULL) {
        die("an element too many");
    }
}

int main(int argc, char **argv)
{
    n_threads = argc > 1 ? (unsigned)atoi(argv[1]) : n_threads;
    n_turns = argc > 2 ? (unsigned)atoi(argv[2]) : n_turns;
    AO_free(NULL);
    AO_free(AO_malloc(0));
    AO_malloc_enable_mmap();
    AO_free(AO_malloc(65529));
    with_threads(lists, n_threads);
    for (unsigned n = 1; n <= n_threads && n <= 8; n++) {
        stack_test(n);
    }
    printf("%u lists of %u nodes turned round %u times; stack lock-free: %d\n", n_threads, LENGTH, n_turns,
           AO_stack_is_lock_free());
    return 0;
}
