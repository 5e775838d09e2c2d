/* SPDX-License-Identifier: MIT */
/* arena_stack.c - a stack in a fixed piece of static memory: it can't grow, and says so. Neither heap nor system is
 * asked for anything: the arena's books lie in a second array.
 *
 *     cc arena_stack.c $(pkg-config --cflags --libs allot) -o arena_stack && ./arena_stack
 */
#include <allot/arena.h>
#include <stdio.h>
#include <string.h>

struct entry {
    struct entry *below;
    char *text;
};

struct stack {
    allot_arena *arena;
    struct entry *top;
    size_t depth;
};

enum stack_result { STACK_DONE, STACK_OVERFLOW, STACK_UNDERFLOW };

static char memory[1024];
static char books[4096];

static int stack_open(struct stack *stack)
{
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    options.name = "stack";
    options.books = books;
    options.books_bytes = sizeof books;
    *stack = (struct stack){NULL, NULL, 0};
    return allot_arena_create_at(memory, sizeof memory, &options, &stack->arena);
}

/* Two blocks an entry: when there is no second one, the first goes back, and the stack is what it was. */
static enum stack_result stack_push(struct stack *stack, const char *text)
{
    struct entry *entry = ALLOT_NEW(stack->arena, struct entry);
    if (entry == NULL)
        return STACK_OVERFLOW;
    entry->text = allot_arena_strdup(stack->arena, text);
    if (entry->text == NULL) {
        ALLOT_DELETE(stack->arena, entry);
        return STACK_OVERFLOW;
    }
    entry->below = stack->top;
    stack->top = entry;
    stack->depth++;
    return STACK_DONE;
}

static enum stack_result stack_pop(struct stack *stack, char *text, size_t bytes)
{
    struct entry *entry = stack->top;
    if (entry == NULL)
        return STACK_UNDERFLOW;
    snprintf(text, bytes, "%s", entry->text);
    stack->top = entry->below;
    stack->depth--;
    allot_arena_free(stack->arena, entry->text);
    ALLOT_DELETE(stack->arena, entry);
    return STACK_DONE;
}

int main(void)
{
    struct stack stack;
    char text[64];
    char popped[64];
    if (stack_open(&stack) != 0) {
        puts("no arena");
        return 1;
    }
    size_t capacity = allot_arena_free_bytes(stack.arena);
    for (unsigned round = 0; round < 3; round++) {
        size_t pushed = 0;
        snprintf(text, sizeof text, "entry %zu of round %u", pushed, round);
        while (stack_push(&stack, text) == STACK_DONE) {
            pushed++;
            snprintf(text, sizeof text, "entry %zu of round %u", pushed, round);
        }
        printf("overflow after %zu entries, %zu bytes free\n", pushed, allot_arena_free_bytes(stack.arena));
        while (stack_pop(&stack, popped, sizeof popped) == STACK_DONE) {
            snprintf(text, sizeof text, "entry %zu of round %u", stack.depth, round);
            if (strcmp(popped, text) != 0) {
                printf("popped \"%s\", not \"%s\"\n", popped, text);
                return 1;
            }
        }
        printf("underflow at depth %zu, %zu bytes free\n", stack.depth, allot_arena_free_bytes(stack.arena));
        if (pushed < 10 || allot_arena_free_bytes(stack.arena) != capacity)
            return 1;
    }
    allot_arena_destroy(stack.arena);
    return 0;
}
