/* The two ends of bench/console: a VNC server that does as the viewer bids, and many viewers.
 *
 *   console_load serve
 *       Listens on a free port of 127.0.0.1 and prints it.
 *   console_load drive PORT PATH HEADERS MODE SESSIONS SIZE TOTAL RATE SECONDS
 *       Opens SESSIONS consoles over WebSocket. Line i of the file HEADERS holds the further
 *       request headers of the i-th, separated by '|'; an empty name means none. Prints one line of JSON.
 *
 * Modes: down (SIZE bytes a write, 0: mixed; TOTAL bytes), up (frames of SIZE), keys (RATE a second
 * and session for SECONDS), paint (keys, while every session is sent SIZE bytes ten times a second),
 * connect (open and close for SECONDS, eight at a time), idle, stall-down, stall-up. The last three
 * print a line when they stand still and go on after a line on standard input.
 *
 * A viewer that has greeted sends one order of 16 bytes: a letter, three unused, SIZE, TOTAL.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 256 * 1024, KEY = 8, CONNECTORS = 8, EVENTS = 256 };

static const char VERSION[] = "RFB 003.008\n";
static unsigned char pattern[BUFFER + 256], inbox[BUFFER]; /* byte i of every stream is i & 255 */
static const uint32_t MIXED[] = {65536, 200, 16384, 1024, 32768, 64, 8192, 131072};

struct order {
    char what, unused[3];
    uint32_t size;
    uint64_t total;
};

static void die(const char *what) {
    fprintf(stderr, "console_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void) { /* nanoseconds */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static void nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

static void no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void watch(int epoll, int op, int fd, uint32_t events, void *of) {
    struct epoll_event event = {.events = events, .data.ptr = of};
    if (epoll_ctl(epoll, op, fd, &event)) die("epoll_ctl");
}

static int wait_until(int epoll, struct epoll_event *events, uint64_t due) {
    uint64_t at = now(), left = due > at ? due - at : 0;
    struct timespec timeout = {left / 1000000000u, left % 1000000000u};
    int count = epoll_pwait2(epoll, events, EVENTS, due ? &timeout : NULL, NULL);
    if (count < 0 && errno != EINTR) die("epoll_pwait2");
    return count < 0 ? 0 : count;
}

/* -- the VNC server -------------------------------------------------------------------------- */

struct machine {
    int fd, step; /* of the greeting: version, security, ClientInit, order, at work */
    unsigned char head[32];
    unsigned have;
    struct order order;
    uint64_t received, queued, sent, turn, paint_at; /* of `queued` bytes to write, `sent` are written */
    unsigned char replies[BUFFER];                   /* keys to send back */
    unsigned reply_from, reply_to;
    uint32_t paint_left;
    int wants_out;
    struct machine *next;
};

static struct machine *machines;
static int serving;

static void say(struct machine *m, const void *data, size_t size) {
    if (write(m->fd, data, size) != (ssize_t)size) shutdown(m->fd, SHUT_RDWR);
}

/* Write what is due until the socket is full. */
static void push(struct machine *m) {
    int full = 0;
    while (!full && m->order.what == 'D' && m->sent < m->order.total) {
        uint32_t size = m->order.size ? m->order.size : MIXED[m->turn % 8];
        uint64_t left = m->order.total - m->sent;
        if (size > left) size = left;
        ssize_t n = write(m->fd, pattern + (m->sent & 255), size);
        if (n > 0) m->sent += n, m->turn++;
        if (n < (ssize_t)size) full = 1;
    }
    while (!full && (m->paint_left || m->reply_from < m->reply_to)) {
        /* A picture begun is finished first; both are messages that begin with a letter. */
        ssize_t n;
        if (m->paint_left) {
            static unsigned char picture[BUFFER];
            uint32_t done = m->order.size - m->paint_left;
            picture[0] = 'P';
            n = write(m->fd, picture + done, m->paint_left);
            if (n > 0) m->paint_left -= n, m->sent += n;
            full = m->paint_left > 0;
        } else {
            n = write(m->fd, m->replies + m->reply_from, m->reply_to - m->reply_from);
            if (n > 0) m->reply_from += n;
            full = m->reply_from < m->reply_to;
        }
    }
    if (m->reply_from == m->reply_to) m->reply_from = m->reply_to = 0;
    if (full != m->wants_out) {
        m->wants_out = full;
        watch(serving, EPOLL_CTL_MOD, m->fd, EPOLLIN | (full ? EPOLLOUT : 0), m);
    }
}

static void take_order(struct machine *m) {
    memcpy(&m->order, m->head, sizeof m->order);
    m->have = 0;
    m->step = 4;
    if (m->order.what == 'P') m->paint_at = now() + rand() % 100 * 1000000ull;
    if (m->order.what == 'S') epoll_ctl(serving, EPOLL_CTL_DEL, m->fd, NULL);
    push(m);
}

/* 0 when the viewer has left. */
static int hear(struct machine *m) {
    static const unsigned NEED[] = {12, 1, 1, sizeof(struct order)};
    if (m->step < 4) {
        ssize_t n = read(m->fd, m->head + m->have, NEED[m->step] - m->have);
        if (n <= 0) return n < 0 && errno == EAGAIN;
        m->have += n;
        if (m->have < NEED[m->step]) return 1;
        if (m->step == 3) return take_order(m), 1;
        m->have = 0;
        if (m->step == 0) say(m, "\1\1", 2);
        if (m->step == 1) say(m, "\0\0\0\0", 4);
        if (m->step == 2) say(m, "\4\0\3\0\40\30\0\1\0\377\0\377\0\377\20\10\0\0\0\0\0\0\0\0", 24);
        m->step++;
        return 1;
    }
    int echoes = m->order.what == 'E' || m->order.what == 'P';
    ssize_t n = echoes ? read(m->fd, m->replies + m->reply_to, BUFFER - m->reply_to) : read(m->fd, inbox, BUFFER);
    if (n <= 0) return n < 0 && errno == EAGAIN;
    m->received += n;
    if (echoes) {
        m->reply_to += n;
        push(m);
    } else if (m->order.what == 'U' && m->received >= m->order.total) {
        say(m, "KDONEXXX", KEY);
        m->order.what = 0;
    }
    return 1;
}

static void leave(struct machine *gone) {
    struct machine **at = &machines;
    while (*at != gone) at = &(*at)->next;
    *at = gone->next;
    close(gone->fd);
    free(gone);
}

static void serve(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&address, size) || listen(listener, 1024) || getsockname(listener, (void *)&address, &size)) die("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    serving = epoll_create1(0);
    watch(serving, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    struct epoll_event events[EVENTS];
    for (;;) {
        uint64_t due = 0, at;
        for (struct machine *m = machines; m; m = m->next)
            if (m->paint_at && (!due || m->paint_at < due)) due = m->paint_at;
        int count = wait_until(serving, events, due);
        for (int i = 0; i < count; i++) {
            struct machine *m = events[i].data.ptr;
            if (!m) {
                m = calloc(1, sizeof *m);
                m->fd = accept(listener, NULL, NULL);
                nonblocking(m->fd);
                no_delay(m->fd);
                m->next = machines;
                machines = m;
                watch(serving, EPOLL_CTL_ADD, m->fd, EPOLLIN, m);
                say(m, VERSION, 12);
            } else if (events[i].events & ~EPOLLOUT && !hear(m))
                leave(m);
            else if (events[i].events == EPOLLOUT)
                push(m);
        }
        at = now();
        for (struct machine *m = machines; m; m = m->next)
            if (m->paint_at && m->paint_at <= at && !m->paint_left) {
                m->paint_at += 100000000u;
                m->paint_left = m->order.size;
                push(m);
            }
    }
}

/* -- the viewers ----------------------------------------------------------------------------- */

struct viewer {
    int fd;
    unsigned char head[16]; /* of a frame that is not whole yet */
    unsigned have;
    uint64_t payload;        /* bytes of the frame still to come */
    unsigned char opcode;
    uint64_t received;       /* bytes of the stream */
    unsigned char message[KEY];
    unsigned message_have;
    uint64_t message_skip;   /* the rest of a picture */
    uint64_t key_at;
};

static int port, sessions, epoll;
static const char *path;
static char **header_lines;
static int header_count;
static uint32_t message_size;
static uint64_t total, *latencies, answered, painted, wrong;
static double rate, seconds;

static size_t frame(unsigned char *out, const void *payload, size_t size) {
    static const unsigned char MASK[4] = {0x37, 0xfa, 0x21, 0x3d};
    size_t at = 2;
    out[0] = 0x82;
    if (size < 126)
        out[1] = 0x80 | size;
    else if (size < 65536)
        out[1] = 0x80 | 126, out[2] = size >> 8, out[3] = size, at = 4;
    else {
        out[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++) out[2 + i] = (uint64_t)size >> (56 - 8 * i);
        at = 10;
    }
    memcpy(out + at, MASK, 4);
    at += 4;
    for (size_t i = 0; i < size; i++) out[at + i] = ((const unsigned char *)payload)[i] ^ MASK[i & 3];
    return at + size;
}

static void send_frame(int fd, const void *payload, size_t size) {
    unsigned char out[256];
    size_t length = frame(out, payload, size);
    if (send(fd, out, length, MSG_NOSIGNAL) != (ssize_t)length) die("send");
}

static void read_all(int fd, void *into, size_t size) {
    for (size_t have = 0; have < size;) {
        ssize_t n = read(fd, (char *)into + have, size - have);
        if (n <= 0) die(n ? "read" : "the relay closed");
        have += n;
    }
}

/* While greeting: `size` bytes of payload, from as many frames as it takes. */
static void read_stream(struct viewer *v, void *into, size_t size) {
    while (size) {
        unsigned char head[4];
        while (!v->payload) {
            read_all(v->fd, head, 2);
            v->payload = head[1];
            if (head[1] == 126) read_all(v->fd, head + 2, 2), v->payload = head[2] << 8 | head[3];
            if (head[0] != 0x82) errno = EPROTO, die("closed while greeting");
        }
        size_t part = size < v->payload ? size : v->payload;
        read_all(v->fd, into, part);
        v->payload -= part;
        into = (char *)into + part;
        size -= part;
    }
}

static void open_viewer(struct viewer *v, int number, int receive_buffer) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char request[4096], further[3072] = "", answer[4096];
    memset(v, 0, sizeof *v);
    if (header_count) {
        const char *line = header_lines[number % header_count];
        char *to = further;
        for (; *line; line++)
            if (*line == '|')
                *to++ = '\r', *to++ = '\n';
            else
                *to++ = *line;
        strcpy(to, "\r\n");
    }
    v->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer) setsockopt(v->fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    if (connect(v->fd, (void *)&address, sizeof address)) die("connect");
    no_delay(v->fd);
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
                          path, port, further);
    if (write(v->fd, request, length) != length) die("request");
    for (size_t have = 0; have < 4 || memcmp(answer + have - 4, "\r\n\r\n", 4); have++) {
        if (have == sizeof answer) errno = EPROTO, die("answer");
        read_all(v->fd, answer + have, 1);
    }
    if (strncmp(answer, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "console_load: %.60s\n", answer);
        exit(1);
    }
    char greeting[24];
    read_stream(v, greeting, 12);
    send_frame(v->fd, VERSION, 12);
    read_stream(v, greeting, 2);
    send_frame(v->fd, "\1", 1);
    read_stream(v, greeting, 4);
    send_frame(v->fd, "\1", 1);
    read_stream(v, greeting, 24);
}

static void order(struct viewer *v, char what, uint32_t size, uint64_t all) {
    struct order order = {.what = what, .size = size, .total = all};
    send_frame(v->fd, &order, sizeof order);
}

/* One run of payload. With keys it is made of messages, otherwise it is counted and compared. */
static void stream(struct viewer *v, const unsigned char *data, size_t size, int messages) {
    if (!messages) {
        if (memcmp(data, pattern + (v->received & 255), size < BUFFER ? size : BUFFER)) wrong++;
        v->received += size;
        return;
    }
    v->received += size;
    while (size) {
        if (v->message_skip) {
            size_t part = size < v->message_skip ? size : v->message_skip;
            v->message_skip -= part;
            painted += part;
            data += part;
            size -= part;
            continue;
        }
        v->message[v->message_have++] = *data++;
        size--;
        if (v->message_have < KEY) continue;
        v->message_have = 0;
        if (v->message[0] == 'P') {
            painted += KEY;
            v->message_skip = message_size - KEY;
        } else if (v->message[0] == 'K') {
            uint64_t sent = 0;
            memcpy(&sent, v->message + 1, 7);
            latencies[answered++] = (now() & 0xffffffffffffffull) - sent;
        } else
            wrong++;
    }
}

/* Read what there is. 0: nothing more at the moment. */
static int receive(struct viewer *v, int messages) {
    ssize_t n = read(v->fd, inbox, BUFFER);
    if (n == 0) errno = EPIPE, die("the relay closed");
    if (n < 0) {
        if (errno == EAGAIN) return 0;
        die("read");
    }
    for (ssize_t at = 0; at < n;) {
        if (v->payload) {
            size_t part = (uint64_t)(n - at) < v->payload ? (uint64_t)(n - at) : v->payload;
            if (v->opcode == 0x82) stream(v, inbox + at, part, messages);
            v->payload -= part;
            at += part;
            continue;
        }
        v->head[v->have++] = inbox[at++];
        unsigned need = v->have < 2 ? 2 : v->head[1] == 127 ? 10 : v->head[1] == 126 ? 4 : 2;
        if (v->have < need) continue;
        v->opcode = v->head[0];
        if (v->opcode == 0x88) errno = EPIPE, die("the relay closed with a frame");
        v->payload = v->head[1];
        if (need > 2) v->payload = 0;
        for (unsigned i = 2; i < need; i++) v->payload = v->payload << 8 | v->head[i];
        if (v->opcode == 0x89) send(v->fd, "\x8a\x80\0\0\0\0", 6, MSG_NOSIGNAL);
        v->have = 0;
    }
    return 1;
}

static void await_line(const char *standing) {
    char line[16];
    printf("%s\n", standing);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) exit(0);
}

static void down(int stalls) {
    struct viewer v;
    open_viewer(&v, 0, stalls ? 65536 : 0);
    uint64_t start = now();
    order(&v, 'D', message_size, total);
    while (v.received < total) {
        receive(&v, 0);
        if (stalls && now() - start > 200000000u) stalls = 0, await_line("{\"standing\": true}");
    }
    printf("{\"seconds\": %.6f, \"bytes\": %lu, \"wrong\": %lu}\n", (now() - start) / 1e9, v.received, wrong);
}

static void up(int stalls) {
    struct viewer v;
    struct epoll_event event;
    open_viewer(&v, 0, 0);
    total -= total % message_size;
    order(&v, stalls ? 'S' : 'U', 0, total);
    size_t count = BUFFER / (message_size + 14) + 1, length = 0, offset = 0;
    unsigned char *frames = malloc(count * (message_size + 14));
    for (size_t i = 0; i < count; i++) length += frame(frames + length, pattern, message_size);
    size_t one = length / count;
    uint64_t bytes = total / message_size * one, sent = 0, start = now(), moved = start;
    nonblocking(v.fd);
    epoll = epoll_create1(0);
    watch(epoll, EPOLL_CTL_ADD, v.fd, EPOLLIN | EPOLLOUT, &v);
    latencies = calloc(16, sizeof *latencies);
    while (!answered) {
        if (sent == bytes && !stalls) watch(epoll, EPOLL_CTL_MOD, v.fd, EPOLLIN, &v);
        if (wait_until(epoll, &event, now() + 100000000u)) {
            if (event.events & EPOLLIN) receive(&v, 1);
            while (sent < bytes) {
                size_t part = length - offset;
                if (part > bytes - sent) part = bytes - sent;
                ssize_t n = send(v.fd, frames + offset, part, MSG_NOSIGNAL);
                if (n < 0 && errno == EAGAIN) break;
                if (n < 0) die("send");
                sent += n;
                offset = (offset + n) % length;
                moved = now();
            }
        }
        if (stalls && now() - moved > 3000000000u) break;
    }
    printf("{\"seconds\": %.6f, \"bytes\": %lu}\n", (now() - start) / 1e9, sent / one * message_size);
    if (stalls) await_line("{\"standing\": true}");
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void keys(int paints) {
    struct viewer *viewers = calloc(sessions, sizeof *viewers);
    struct epoll_event events[EVENTS];
    uint64_t sent = 0, period = 1e9 / rate;
    latencies = calloc(sessions * (rate * seconds + 2), sizeof *latencies);
    epoll = epoll_create1(0);
    for (int i = 0; i < sessions; i++) {
        open_viewer(&viewers[i], i, 0);
        nonblocking(viewers[i].fd);
        watch(epoll, EPOLL_CTL_ADD, viewers[i].fd, EPOLLIN, &viewers[i]);
        for (int j = wait_until(epoll, events, 1); j-- > 0;) receive(events[j].data.ptr, 1); /* pings */
    }
    await_line("{\"standing\": true}");
    for (int i = 0; i < sessions; i++) order(&viewers[i], paints ? 'P' : 'E', message_size, 0);
    uint64_t start = now() + 200000000u, end = start + seconds * 1e9;
    for (int i = 0; i < sessions; i++) viewers[i].key_at = start + period * i / sessions;
    /* Keys are due one session after the other, round and round. */
    for (int turn = 0;;) {
        uint64_t at = now(), due = viewers[turn].key_at;
        if (at >= end + 1000000000u) break;
        if (due > end) due = end + 1000000000u;
        if (at >= end && answered == sent && !paints) break;
        while (viewers[turn].key_at <= at && viewers[turn].key_at < end) {
            unsigned char key[KEY] = "K";
            uint64_t stamp = now();
            memcpy(key + 1, &stamp, 7);
            send_frame(viewers[turn].fd, key, KEY);
            sent++;
            viewers[turn].key_at += period;
            turn = (turn + 1) % sessions;
            due = viewers[turn].key_at;
        }
        int count = wait_until(epoll, events, due < end ? due : at + 10000000u);
        for (int i = 0; i < count; i++) receive(events[i].data.ptr, 1);
    }
    if (!answered) answered = 1;
    qsort(latencies, answered, sizeof *latencies, ascending);
    printf("{\"sent\": %lu, \"answered\": %lu, \"p50\": %.1f, \"p99\": %.1f, \"painted\": %lu, \"wrong\": %lu}\n", sent, answered,
           latencies[answered / 2] / 1e3, latencies[answered * 99 / 100] / 1e3, painted, wrong);
}

static void idle(void) {
    struct viewer *viewers = calloc(sessions, sizeof *viewers);
    for (int i = 0; i < sessions; i++) open_viewer(&viewers[i], i, 0);
    await_line("{\"standing\": true}");
}

static void connects(void) {
    uint64_t start = now(), end = start + seconds * 1e9, all = 0;
    int ends[2];
    if (pipe(ends)) die("pipe");
    for (int child = 0; child < CONNECTORS; child++)
        if (!fork()) {
            uint64_t count = 0;
            for (int i = child; now() < end && (!header_count || i < header_count); i += CONNECTORS, count++) {
                struct viewer v;
                open_viewer(&v, i, 0);
                close(v.fd);
            }
            exit(write(ends[1], &count, sizeof count) != sizeof count);
        }
    for (int child = 0; child < CONNECTORS; child++) {
        uint64_t count;
        int status;
        wait(&status);
        if (status) exit(1);
        read_all(ends[0], &count, sizeof count);
        all += count;
    }
    printf("{\"connects\": %lu, \"seconds\": %.6f}\n", all, (now() - start) / 1e9);
}

static void read_headers(const char *name) {
    char line[3000];
    FILE *file = fopen(name, "r");
    if (!file) die(name);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        header_lines = realloc(header_lines, (header_count + 1) * sizeof *header_lines);
        header_lines[header_count++] = strdup(line);
    }
    fclose(file);
}

int main(int argc, char **argv) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = i;
    if (argc == 2 && !strcmp(argv[1], "serve")) serve();
    if (argc != 11 || strcmp(argv[1], "drive")) {
        fprintf(stderr, "usage: see the head of console_load.c\n");
        return 2;
    }
    const char *mode = argv[5];
    port = atoi(argv[2]);
    path = argv[3];
    if (*argv[4]) read_headers(argv[4]);
    sessions = atoi(argv[6]);
    message_size = atoi(argv[7]);
    total = strtoull(argv[8], NULL, 10);
    rate = atof(argv[9]);
    seconds = atof(argv[10]);
    if (!strcmp(mode, "down") || !strcmp(mode, "stall-down")) down(*mode == 's');
    else if (!strcmp(mode, "up") || !strcmp(mode, "stall-up")) up(*mode == 's');
    else if (!strcmp(mode, "keys") || !strcmp(mode, "paint")) keys(*mode == 'p');
    else if (!strcmp(mode, "idle")) idle();
    else if (!strcmp(mode, "connect")) connects();
    else return 2;
    return 0;
}
