/* SPDX-License-Identifier: MIT */
/* look.c - the socket's life: see look.h.
 *
 * Threads.   The thread of this room owns clients; other fields are set before it starts, but for what is atomic.
 */
#include "look/look.h"

#include "base/atomic.h"
#include "base/base.h"
#include "base/format.h"
#include "config/config.h"
#include "look/look_internal.h"
#include "os/os.h"

#include <errno.h>
#include <string.h>

#define CLIENTS_MOST 16u
#define QUESTION_BYTES 64u
#define PATIENCE_MS 1000u /* for a client that doesn't read */
#define IDLE_MS 60000u    /* a client that doesn't ask goes; so does a socket that a signal opened and nobody uses */
#define PATH_BYTES 256u

struct client {
    _Atomic int fd; /* -1: none. Relaxed: a forked child reads it, in which this thread isn't */
    uint64_t asked_ms;
    unsigned length;
    char question[QUESTION_BYTES];
};

static struct {
    _Atomic int listener;  /* -1: closed. As a client's fd */
    int wake[2];           /* the signal's handler writes to the second */
    uint64_t used_ms;      /* when somebody was last there */
    char path[PATH_BYTES]; /* constant while there is a thread */
    struct client clients[CLIENTS_MOST];
    bool is_on; /* there is a thread */
} look;

/* ---- the socket --------------------------------------------------------------------------------------------- */

static void complain(const char *what, const char *path, int error)
{
    char bytes[512];
    struct text text = text_in(bytes, sizeof bytes);
    text_add(&text, "allot: look: ");
    text_add(&text, path);
    text_add(&text, ": ");
    text_add(&text, what);
    if (error != 0) {
        text_add(&text, " (error ");
        text_add_signed(&text, -error);
        text_add(&text, ")");
    }
    text_add(&text, "; there is no socket\n");
    os_write_error(text.bytes, text.length);
}

/* The user's directory; it is made if need be. */
static bool find_directory(struct text *path)
{
    char runtime[PATH_BYTES - 64];
    if (os_environment("XDG_RUNTIME_DIR", runtime, sizeof runtime) && runtime[0] == '/') {
        text_add(path, runtime);
        text_add(path, "/allot");
        if (os_private_directory(path->bytes) == 0) {
            return true;
        }
        *path = text_in(path->bytes, path->capacity);
    }
    text_add(path, "/tmp/allot-");
    text_add_unsigned(path, os_user_id());
    int error = os_private_directory(path->bytes);
    if (error != 0) {
        complain(error == -EPERM ? "is another user's, or others may enter it" : "can't be made", path->bytes, error);
    }
    return error == 0;
}

static bool find_path(void)
{
    struct text path = text_in(look.path, sizeof look.path);
    if (!find_directory(&path)) {
        return false;
    }
    text_add(&path, "/");
    text_add_unsigned(&path, os_process_id());
    text_add(&path, ".sock");
    return true;
}

static bool socket_open(void)
{
    int fd = os_listen(look.path);
    if (fd < 0) {
        complain("can't be listened at", look.path, fd);
        return false;
    }
    store_relaxed(&look.listener, fd);
    look.used_ms = os_now_ms();
    return true;
}

static void socket_close(void)
{
    os_unlink(look.path);
    os_close(load_relaxed(&look.listener));
    store_relaxed(&look.listener, -1);
}

/* ---- clients ------------------------------------------------------------------------------------------------ */

static void client_close(struct client *client)
{
    os_close(load_relaxed(&client->fd));
    store_relaxed(&client->fd, -1);
}

static struct client *client_slot(void)
{
    for (unsigned i = 0; i < CLIENTS_MOST; i++) {
        if (load_relaxed(&look.clients[i].fd) < 0) {
            return &look.clients[i];
        }
    }
    return NULL;
}

static void client_accept(struct client *client, uint64_t now_ms)
{
    int fd = os_accept(load_relaxed(&look.listener), PATIENCE_MS);
    if (fd < 0) {
        return;
    }
    if (!os_peer_may(fd) || !answer_greeting(fd)) {
        os_close(fd);
        return;
    }
    client->length = 0;
    client->asked_ms = now_ms;
    store_relaxed(&client->fd, fd);
}

/* What has come of a question; the answer, when it is whole. */
static void client_serve(struct client *client, uint64_t now_ms)
{
    int fd = load_relaxed(&client->fd);
    long got = os_receive(fd, client->question + client->length, QUESTION_BYTES - client->length);
    if (got == -EAGAIN) {
        return;
    }
    if (got <= 0) {
        client_close(client);
        return;
    }
    client->length += (unsigned)got;
    client->asked_ms = now_ms;
    for (;;) {
        char *end = memchr(client->question, '\n', client->length);
        if (end == NULL) {
            if (client->length == QUESTION_BYTES) {
                client_close(client); /* no question is so long */
            }
            return;
        }
        *end = '\0';
        if (!answer(fd, client->question)) {
            client_close(client);
            return;
        }
        unsigned used = (unsigned)(end + 1 - client->question);
        client->length -= used;
        memmove(client->question, end + 1, client->length);
    }
}

static bool drop_idle(uint64_t now_ms)
{
    bool any = false;
    for (unsigned i = 0; i < CLIENTS_MOST; i++) {
        struct client *client = &look.clients[i];
        if (load_relaxed(&client->fd) >= 0 && now_ms - client->asked_ms > IDLE_MS) {
            client_close(client);
        }
        any = any || load_relaxed(&client->fd) >= 0;
    }
    return any;
}

/* ---- the thread --------------------------------------------------------------------------------------------- */

/* One round: whoever is ready is served. */
static void serve_once(void)
{
    int waited[CLIENTS_MOST + 2];
    uint32_t ready;
    struct client *slot = client_slot();
    for (unsigned i = 0; i < CLIENTS_MOST; i++) {
        waited[i] = load_relaxed(&look.clients[i].fd);
    }
    waited[CLIENTS_MOST] = slot == NULL ? -1 : load_relaxed(&look.listener); /* the others wait until one has gone */
    waited[CLIENTS_MOST + 1] = look.wake[0];
    bool any = drop_idle(os_now_ms());
    bool closes = !option(OPT_look) && load_relaxed(&look.listener) >= 0;
    os_wait_for(waited, CLIENTS_MOST + 2, any || closes ? (int)IDLE_MS / 4 : -1, &ready);
    uint64_t now_ms = os_now_ms();
    for (unsigned i = 0; i < CLIENTS_MOST; i++) {
        if ((ready >> i & 1) != 0 && load_relaxed(&look.clients[i].fd) >= 0) {
            client_serve(&look.clients[i], now_ms);
        }
    }
    if ((ready >> CLIENTS_MOST & 1) != 0) {
        client_accept(slot, now_ms);
    }
    if ((ready >> (CLIENTS_MOST + 1) & 1) != 0) {
        os_pipe_drain(look.wake[0]);
        if (load_relaxed(&look.listener) < 0) {
            socket_open();
        }
    }
    if (any || (ready & ((UINT32_C(1) << (CLIENTS_MOST + 1)) - 1)) != 0) {
        look.used_ms = now_ms;
    }
    if (closes && now_ms - look.used_ms > IDLE_MS) {
        socket_close();
    }
}

static void *serve(void *unused)
{
    (void)unused;
    os_thread_name("allot-look");
    if (option(OPT_look) && !socket_open() && option(OPT_look_signal) == 0) {
        return NULL;
    }
    for (;;) {
        serve_once();
    }
}

/* ---- start, fork, end --------------------------------------------------------------------------------------- */

static void on_signal(int number)
{
    (void)number;
    os_pipe_write(look.wake[1]);
}

static void begin(void)
{
    store_relaxed(&look.listener, -1);
    for (unsigned i = 0; i < CLIENTS_MOST; i++) {
        store_relaxed(&look.clients[i].fd, -1);
    }
    look.is_on =
        find_path() && os_pipe(look.wake) == 0 && os_thread_start(serve, NULL, (int)option(OPT_gc_signal)) == 0;
}

static void forget(int descriptor)
{
    if (descriptor >= 0) {
        os_close(descriptor);
    }
}

/* The parent's socket is the parent's: here nobody would answer at it. */
static void fork_child(void)
{
    if (!look.is_on) {
        return;
    }
    for (unsigned i = 0; i < CLIENTS_MOST; i++) {
        forget(load_relaxed(&look.clients[i].fd));
    }
    forget(load_relaxed(&look.listener));
    forget(look.wake[0]);
    forget(look.wake[1]);
    begin();
}

static bool is_switched_off(void)
{
    char value[8];
    return os_environment("ALLOT_LOOK", value, sizeof value) && (strcmp(value, "off") == 0 || strcmp(value, "0") == 0);
}

void look_start(void)
{
    int number = (int)option(OPT_look_signal);
    if ((!option(OPT_look) && number == 0) || os_is_privileged() || is_switched_off()) {
        return;
    }
    begin();
    os_fork_init(fork_child);
    if (look.is_on && number != 0) {
        int error = os_on_signal(number, on_signal);
        if (error != 0) {
            complain(error == -EBUSY ? "the program has a handler of its own" : "that signal can't be handled",
                     "look_signal", error);
        }
    }
}

void look_end(void)
{
    if (look.is_on && load_relaxed(&look.listener) >= 0) {
        os_unlink(look.path);
    }
}
