/* SPDX-License-Identifier: MIT */
/* look_client.c - see look_client.h.
 *
 * The socket is PID.sock in XDG_RUNTIME_DIR/allot or /tmp/allot-UID, all three as the process sees them: it is reached
 * through /proc/PID/root, so also in a container.
 */
#include "look_client.h"

#include "heap_read.h"
#include "tool.h"

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define LOOK_FORMAT 1
#define ANSWER_SECONDS 5

/* ---- where the socket is ------------------------------------------------------------------------------------ */

/* The process's number as it sees it itself: the last of NSpid. */
static int own_number(pid_t pid)
{
    char *status = process_file(pid, "status", NULL);
    char *line = status == NULL ? NULL : strstr(status, "\nNSpid:");
    int number = (int)pid;
    if (line != NULL) {
        line++;
        line[strcspn(line, "\n")] = '\0';
        char *last = strrchr(line, '\t');
        number = last == NULL ? number : atoi(last + 1);
    }
    free(status);
    return number;
}

static char *environment_of(pid_t pid, const char *name)
{
    size_t length = 0;
    char *all = process_file(pid, "environ", &length);
    size_t name_length = strlen(name);
    char *value = NULL;
    for (size_t at = 0; all != NULL && at < length && value == NULL; at += strlen(all + at) + 1) {
        if (strncmp(all + at, name, name_length) == 0 && all[at + name_length] == '=') {
            value = take_copy(all + at + name_length + 1);
        }
    }
    free(all);
    return value;
}

/* NULL when there is none. A user's number may be another inside of a container. */
static char *socket_path(pid_t pid)
{
    char *runtime = environment_of(pid, "XDG_RUNTIME_DIR");
    int number = own_number(pid);
    char *patterns[2] = {
        take_text("/proc/%d/root%s/allot/%d.sock", (int)pid, runtime == NULL ? "/nowhere" : runtime, number),
        take_text("/proc/%d/root/tmp/allot-*/%d.sock", (int)pid, number),
    };
    char *path = NULL;
    for (size_t i = 0; i < 2; i++) {
        glob_t found;
        if (glob(patterns[i], GLOB_NOSORT, NULL, &found) == 0) {
            if (path == NULL) {
                path = take_copy(found.gl_pathv[0]);
            }
            globfree(&found);
        }
        free(patterns[i]);
    }
    free(runtime);
    return path;
}

/* ---- the connection ----------------------------------------------------------------------------------------- */

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = ANSWER_SECONDS};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* Who listens there is the process that is meant. */
static bool is_meant(int fd, pid_t pid)
{
    struct ucred who;
    socklen_t length = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0 && who.pid == pid;
}

enum look_error look_open(const struct target *target, struct look *look)
{
    *look = (struct look){.fd = -1};
    char *path = target->pid == 0 ? NULL : socket_path(target->pid);
    if (path == NULL) {
        return LOOK_NO_SOCKET;
    }
    look->fd = connect_to(path);
    enum look_error error = look->fd >= 0                           ? LOOK_OPEN
                            : errno == EACCES                       ? LOOK_REFUSED
                            : errno == EAGAIN || errno == ETIMEDOUT ? LOOK_NO_ANSWER
                                                                    : LOOK_NO_SOCKET;
    free(path);
    if (error == LOOK_OPEN && !is_meant(look->fd, target->pid)) {
        error = LOOK_NO_SOCKET; /* left behind by another */
    }
    look->in = error == LOOK_OPEN ? fdopen(look->fd, "re") : NULL;
    char line[128];
    unsigned format = 0;
    if (error == LOOK_OPEN && (look->in == NULL || fgets(line, sizeof line, look->in) == NULL)) {
        error = LOOK_NO_ANSWER;
    } else if (error == LOOK_OPEN &&
               (sscanf(line, "allot %23s look %u", look->version, &format) != 2 || format != LOOK_FORMAT)) {
        error = LOOK_OTHER_FORMAT;
    }
    if (error != LOOK_OPEN) {
        look_close(look);
    }
    return error;
}

void look_close(struct look *look)
{
    if (look->in != NULL) {
        fclose(look->in);
    } else if (look->fd >= 0) {
        close(look->fd);
    }
    look->in = NULL;
    look->fd = -1;
}

bool look_ask(struct look *look, const char *question)
{
    size_t length = strlen(question);
    return look->in != NULL && send(look->fd, question, length, MSG_NOSIGNAL) == (ssize_t)length;
}

bool look_line(struct look *look, char *line, size_t capacity)
{
    if (look->in == NULL || fgets(line, (int)capacity, look->in) == NULL) {
        look_close(look);
        return false;
    }
    line[strcspn(line, "\n")] = '\0';
    return strcmp(line, "end") != 0;
}

/* ---- the heap ----------------------------------------------------------------------------------------------- */

static unsigned hex_digit(char c)
{
    return c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 0;
}

/* Two digits a byte, the lowest bits first; what is missing is 0. */
static unsigned char *parse_bits(const char *text, uint32_t n_bits)
{
    size_t n = n_bits / 8 + 1;
    unsigned char *bits = take_memory(n);
    for (size_t i = 0; i < n && text[0] != '\0' && text[1] != '\0'; i++, text += 2) {
        bits[i] = (unsigned char)(hex_digit(text[0]) << 4 | hex_digit(text[1]));
    }
    return bits;
}

static bool parse_use(const char *word, enum span_use *use)
{
    for (enum span_use i = 0; i < N_USES; i++) {
        if (strcmp(word, use_keys[i]) == 0) {
            *use = i;
            return true;
        }
    }
    return false;
}

/* span USE begin bytes own class heap first block_bytes n_blocks requested live_bytes age bits */
static void parse_span(struct target *target, struct heap_view *view, const char *line)
{
    char word[16];
    unsigned own;
    struct span_view s = {0};
    int bits_at = 0;
    int n = sscanf(line,
                   "span %15s %" SCNx64 " %" SCNu64 " %u %u %" SCNu32 " %" SCNx64 " %" SCNu64 " %" SCNu32 " %" SCNu64
                   " %" SCNu64 " %" SCNd64 " %n",
                   word, &s.begin, &s.bytes, &own, &s.class_index, &s.heap, &s.first_block, &s.block_bytes, &s.n_blocks,
                   &s.requested_bytes, &s.live_bytes, &s.age_ms, &bits_at);
    bool sound = n == 12 && parse_use(word, &s.use) && s.bytes > 0 && s.bytes < UINT64_C(1) << 47 &&
                 s.first_block >= s.begin && s.first_block - s.begin <= s.bytes && s.block_bytes <= s.bytes &&
                 s.n_blocks <= s.bytes / 16;
    if (sound && (s.use == USE_SMALL || s.use == USE_MEDIUM)) {
        sound = s.block_bytes * s.n_blocks <= s.bytes - (s.first_block - s.begin);
    }
    if (!sound) {
        view->n_torn++;
        return;
    }
    s.own = own != 0;
    if (s.use != USE_POOL) {
        s.live_bytes = 0; /* comes of the bits */
    }
    s.live_bits = bits_at > 0 && s.n_blocks > 0 ? parse_bits(line + bits_at, s.n_blocks) : NULL;
    struct span_view *span = heap_view_add(view);
    *span = s;
    span_measure(target, span);
}

static void parse_heap(struct target *target, struct heap_view *view, const char *line)
{
    unsigned idle;
    struct heap_of_thread heap = {0};
    uint64_t storage;
    if (sscanf(line, "heap %" SCNu32 " %u %" SCNu64 " %" SCNx64, &heap.number, &idle, &heap.binned_blocks, &storage) ==
        4) {
        heap.idle = idle != 0;
        heap.tid = target_thread_by_storage(target, storage);
        view->heaps = grown(view->heaps, view->n_heaps, sizeof *view->heaps);
        view->heaps[view->n_heaps++] = heap;
    }
}

/* arena DEPTH SERIAL KIND SIZE LIVE TOTAL SOFT HARD SEGMENTS SEALED LINE NAME-BYTES NAME FILE */
static void parse_arena(struct heap_view *view, const char *line)
{
    struct arena_view arena = {0};
    unsigned sealed;
    size_t name_bytes;
    int at = 0;
    int n = sscanf(
        line, "arena %u %" SCNu64 " %u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %zu %u %d %zu%n",
        &arena.depth, &arena.serial, &arena.kind, &arena.size_bytes, &arena.live_bytes, &arena.total_bytes,
        &arena.soft_limit, &arena.hard_limit, &arena.n_segments, &sealed, &arena.line, &name_bytes, &at);
    if (n != 12 || strlen(line + at) < name_bytes + 2 || name_bytes >= sizeof arena.name) {
        view->n_torn++;
        return;
    }
    arena.sealed = sealed != 0;
    memcpy(arena.name, line + at + 1, name_bytes);
    snprintf(arena.file, sizeof arena.file, "%s", line + at + 2 + name_bytes);
    view->arenas = grown(view->arenas, view->n_arenas, sizeof *view->arenas);
    view->arenas[view->n_arenas++] = arena;
}

static void parse_other(struct heap_view *view, const char *line)
{
    struct option_view option;
    uint64_t a, b;
    if (sscanf(line, "option %39s %" SCNd64, option.name, &option.value) == 2) {
        view->options = grown(view->options, view->n_options, sizeof *view->options);
        view->options[view->n_options++] = option;
    } else if (sscanf(line, "book %" SCNx64 " %" SCNu64, &a, &b) == 2) {
        range_add(&view->books, &view->n_books, a, b);
    } else if (sscanf(line, "area %" SCNx64 " %" SCNu64, &a, &b) == 2) {
        range_add(&view->areas, &view->n_areas, a, b);
    } else if (sscanf(line, "reserved %" SCNu64, &a) == 1) {
        view->area_bytes = a;
    } else if (sscanf(line, "sampled %" SCNu64 " %" SCNu64, &a, &b) == 2) {
        view->sampled_bytes = b;
        view->rounding = a > 0 && b > a && b / 4 < a ? (double)b / (double)a : 1;
    } else if (sscanf(line, "purged %" SCNu64 " %" SCNu64, &a, &b) == 2) {
        view->purged_bytes = a;
        view->n_purges = b;
    } else if (sscanf(line, "refusals %" SCNu64, &a) == 1) {
        view->n_refusals = a;
    } else if (sscanf(line, "class %" SCNu64, &a) == 1 && view->n_classes < 256) {
        view->class_bytes[view->n_classes++] = a;
    } else if (sscanf(line, "small %" SCNu64, &a) == 1) {
        view->n_small = a;
    }
}

static bool complain_of(const struct target *target, enum look_error error)
{
    int pid = (int)target->pid;
    switch (error) {
    case LOOK_OTHER_FORMAT:
        complain("process %d has an allot of another version inside: use the command that came with it", pid);
        break;
    case LOOK_NO_ANSWER:
        complain("process %d has a socket but doesn't answer: it is stopped, or about to end", pid);
        break;
    case LOOK_REFUSED:
        complain("the socket of process %d is another user's: run as that user, or as root", pid);
        break;
    default:
        complain(
            "%s%s%sprocess %d has opened no socket: start it with ALLOT_OPTIONS=look, or with look_signal=N and send "
            "it that signal",
            target->memory_error == 0 ? "" : "the kernel lets nobody read its memory (",
            target->memory_error == 0 ? "" : strerror(target->memory_error), target->memory_error == 0 ? "" : "), and ",
            pid);
        break;
    }
    return false;
}

bool look_view(struct target *target, struct heap_view *view)
{
    struct look look;
    enum look_error error = look_open(target, &look);
    if (error != LOOK_OPEN) {
        return complain_of(target, error);
    }
    char *line = take_memory(8192);
    view->by_socket = true;
    snprintf(view->version, sizeof view->version, "%s", look.version);
    static const char *const questions[] = {"heap\n", "arenas\n"};
    bool good = true;
    for (size_t i = 0; i < 2 && good; i++) {
        good = look_ask(&look, questions[i]);
        while (good && look_line(&look, line, 8192)) {
            if (strncmp(line, "span ", 5) == 0) {
                parse_span(target, view, line);
            } else if (strncmp(line, "heap ", 5) == 0) {
                parse_heap(target, view, line);
            } else if (strncmp(line, "arena ", 6) == 0) {
                parse_arena(view, line);
            } else {
                parse_other(view, line);
            }
        }
        good = good && look.in != NULL && strcmp(line, "end") == 0;
    }
    free(line);
    look_close(&look);
    return good || complain_of(target, LOOK_NO_ANSWER);
}
