/* SPDX-License-Identifier: MIT */
/* arena_compiler.c - how a compiler uses a bump arena: a tree for each statement, cut off an arena by an inlined
 * pointer bump, and gone with one rewind when the statement's code is made. What must stay (names, code) lies in an
 * arena of its own.
 *
 *     cc arena_compiler.c $(pkg-config --cflags --libs allot) -o arena_compiler
 *     ./arena_compiler 'a = 2 * (3 + 4)' 'b = a * a - 6' 'b / 10'
 */
#include <allot/arena.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct name {
    struct name *next;
    const char *text;
    long value;
};

struct tree {
    char operation; /* '#': a number, '$': a name, otherwise + - * / = */
    long number;
    struct name *name;
    struct tree *left, *right;
};

enum { LOAD_NUMBER, LOAD_NAME, STORE_NAME, ADD, SUBTRACT, MULTIPLY, DIVIDE };

struct instruction {
    int operation;
    long number;
    struct name *name;
};

static struct {
    allot_arena *trees; /* rewound after each statement */
    allot_arena *kept;
    struct name *names;
    const char *at;
    struct instruction *code;
    size_t n_code;
} compiler;

static void fail(const char *why)
{
    fprintf(stderr, "arena_compiler: %s at \"%s\"\n", why, compiler.at);
    exit(1);
}

static struct tree *node(char operation, struct tree *left, struct tree *right)
{
    struct tree *tree = allot_bump_malloc(compiler.trees, sizeof *tree);
    if (tree == NULL)
        fail("no memory");
    *tree = (struct tree){operation, 0, NULL, left, right};
    return tree;
}

static struct name *name_of(const char *begin, size_t length)
{
    for (struct name *name = compiler.names; name != NULL; name = name->next)
        if (strlen(name->text) == length && memcmp(name->text, begin, length) == 0)
            return name;
    struct name *fresh = ALLOT_NEW(compiler.kept, struct name);
    char *text = ALLOT_NEW_ARRAY(compiler.kept, char, length + 1);
    if (fresh == NULL || text == NULL)
        fail("no memory");
    memcpy(text, begin, length);
    *fresh = (struct name){compiler.names, text, 0};
    compiler.names = fresh;
    return fresh;
}

static char next_character(void)
{
    while (*compiler.at == ' ')
        compiler.at++;
    return *compiler.at;
}

static struct tree *parse_sum(void);

static struct tree *parse_value(void)
{
    char c = next_character();
    struct tree *tree;
    if (c == '(') {
        compiler.at++;
        tree = parse_sum();
        if (next_character() != ')')
            fail("no )");
        compiler.at++;
    } else if (isdigit((unsigned char)c)) {
        tree = node('#', NULL, NULL);
        tree->number = strtol(compiler.at, (char **)&compiler.at, 10);
    } else if (isalpha((unsigned char)c)) {
        const char *begin = compiler.at;
        while (isalnum((unsigned char)*compiler.at))
            compiler.at++;
        tree = node('$', NULL, NULL);
        tree->name = name_of(begin, (size_t)(compiler.at - begin));
    } else {
        tree = NULL;
        fail("no value");
    }
    return tree;
}

static struct tree *parse_product(void)
{
    struct tree *tree = parse_value();
    for (char c = next_character(); c == '*' || c == '/'; c = next_character()) {
        compiler.at++;
        tree = node(c, tree, parse_value());
    }
    return tree;
}

static struct tree *parse_sum(void)
{
    struct tree *tree = parse_product();
    for (char c = next_character(); c == '+' || c == '-'; c = next_character()) {
        compiler.at++;
        tree = node(c, tree, parse_product());
    }
    return tree;
}

static struct tree *parse_statement(void)
{
    struct tree *tree = parse_sum();
    if (tree->operation == '$' && next_character() == '=') {
        compiler.at++;
        tree = node('=', tree, parse_sum());
    }
    if (next_character() != '\0')
        fail("more than a statement");
    return tree;
}

/* The code grows in place: it is the latest block of its arena, or it moves there. */
static void emit(int operation, long number, struct name *name)
{
    compiler.code = allot_arena_realloc(compiler.kept, compiler.code, (compiler.n_code + 1) * sizeof *compiler.code);
    if (compiler.code == NULL)
        fail("no memory");
    compiler.code[compiler.n_code++] = (struct instruction){operation, number, name};
}

static void compile(const struct tree *tree)
{
    if (tree->operation == '#') {
        emit(LOAD_NUMBER, tree->number, NULL);
    } else if (tree->operation == '$') {
        emit(LOAD_NAME, 0, tree->name);
    } else if (tree->operation == '=') {
        compile(tree->right);
        emit(STORE_NAME, 0, tree->left->name);
    } else {
        compile(tree->left);
        compile(tree->right);
        emit(ADD + (int)(strchr("+-*/", tree->operation) - "+-*/"), 0, NULL);
    }
}

static long run(void)
{
    long stack[256];
    size_t depth = 0;
    for (size_t i = 0; i < compiler.n_code; i++) {
        const struct instruction *now = &compiler.code[i];
        if (now->operation == LOAD_NUMBER || now->operation == LOAD_NAME) {
            if (depth == sizeof stack / sizeof stack[0])
                fail("too deep");
            stack[depth++] = now->operation == LOAD_NUMBER ? now->number : now->name->value;
            continue;
        }
        if (now->operation == STORE_NAME) {
            now->name->value = stack[depth - 1];
            continue;
        }
        long right = stack[--depth];
        long *left = &stack[depth - 1];
        if (now->operation == DIVIDE && right == 0)
            fail("division by zero");
        *left = now->operation == ADD        ? *left + right
                : now->operation == SUBTRACT ? *left - right
                : now->operation == MULTIPLY ? *left * right
                                             : *left / right;
    }
    return stack[0];
}

static long statement(const char *text)
{
    allot_mark before;
    if (allot_arena_mark(compiler.trees, &before) != 0)
        fail("no mark");
    compiler.at = text;
    compiler.n_code = 0;
    compile(parse_statement());
    allot_arena_rewind(compiler.trees, &before); /* the tree is gone, its memory the next one's */
    return run();
}

int main(int argc, char **argv)
{
    static const char *const ours[] = {"a = 2 * (3 + 4)", "b = a * a - 6", "b / 10"};
    allot_arena_options options = ALLOT_ARENA_OPTIONS_INIT;
    long value = 0;
    options.kind = ALLOT_ARENA_BUMP;
    options.flags = ALLOT_ARENA_UNSYNCHRONIZED;
    options.name = "trees";
    if (allot_arena_create(0, &options, &compiler.trees) != 0)
        return 1;
    options.name = "names and code";
    if (allot_arena_create(0, &options, &compiler.kept) != 0)
        return 1;
    int n = argc > 1 ? argc - 1 : 3;
    for (int i = 0; i < n; i++) {
        const char *text = argc > 1 ? argv[i + 1] : ours[i];
        value = statement(text);
        printf("%s: %ld\n", text, value);
    }
    size_t used = allot_arena_capacity(compiler.trees) - allot_arena_free_bytes(compiler.trees);
    printf("%zu bytes of trees left\n", used);
    allot_arena_destroy(compiler.trees);
    allot_arena_destroy(compiler.kept);
    return used != 0 || (argc == 1 && value != 19);
}
