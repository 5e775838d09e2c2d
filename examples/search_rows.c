/* SPDX-License-Identifier: MIT */
/* search_rows.c - a search whose rows point into the file.
 *
 *     search_rows FILE WORD
 *
 * The file is mapped and never unmapped by name: each row is a pointer to its line and a length. As long as one row is
 * there, the file is; when the last is forgotten, the next collection unmaps it. Nobody counts references, and no line
 * is copied.
 */
#include <allot/gcmap.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct row {
    const char *text; /* in the mapping */
    size_t length;
};

struct rows {
    size_t n;
    struct row *row;
};

static void rows_add(struct rows *rows, const char *text, size_t length)
{
    if ((rows->n & (rows->n - 1)) == 0) {
        size_t room = rows->n == 0 ? 1 : 2 * rows->n;
        rows->row = realloc(rows->row, room * sizeof *rows->row);
        if (rows->row == NULL) {
            abort();
        }
    }
    rows->row[rows->n++] = (struct row){text, length};
}

/* What a function holds in registers and in its frame counts as long as it runs. So what is to be forgotten is touched
 * in functions of their own, which the compiler may not make part of main. */
#define APART __attribute__((noinline))

/* Every line with the word in it. The mapping's own address doesn't leave this function. */
APART static struct rows search(const char *path, const char *word)
{
    struct rows rows = {0, NULL};
    struct stat status;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &status) != 0 || status.st_size == 0) {
        perror(path);
        exit(1);
    }
    allot_gcmap_opts opts = ALLOT_GCMAP_OPTS_INIT;
    opts.name = "searched file";
    const char *text = allot_gcmap_with(fd, 0, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, &opts);
    close(fd);
    if (text == MAP_FAILED) {
        perror("allot_gcmap");
        exit(1);
    }
    const char *end = text + status.st_size;
    for (const char *line = text; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const char *line_end = newline == NULL ? end : newline;
        if (memmem(line, (size_t)(line_end - line), word, strlen(word)) != NULL) {
            rows_add(&rows, line, (size_t)(line_end - line));
        }
        line = line_end + 1;
    }
    return rows;
}

APART static void print(const struct row *row)
{
    printf("%.*s\n", (int)row->length, row->text);
}

static void report(const char *when)
{
    allot_gcmap_collected told = ALLOT_GCMAP_COLLECTED_INIT;
    int error = allot_gcmap_collect(&told);
    printf("%s: %zu files mapped%s%s\n", when, allot_gcmap_num_active(),
           error == 0 ? "" : ", not collected: ", told.why);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "search_rows FILE WORD\n");
        return 2;
    }
    struct rows rows = search(argv[1], argv[2]);
    report("with all rows");
    if (rows.n > 1) {
        rows.row = realloc(rows.row, sizeof *rows.row); /* one is enough to keep the file */
        rows.n = 1;
        report("with one row");
    }
    if (rows.n > 0) {
        print(rows.row);
    }
    free(rows.row);
    rows.row = NULL;
    report("with none");
    return 0;
}
