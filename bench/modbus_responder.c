/* A cheap Modbus TCP responder for benchmarks: one thread, epoll, loopback only, reads (function codes 1-4) only.
 *
 *   gcc -O2 -o modbus_responder modbus_responder.c
 *   ./modbus_responder --port 15020 --ports 100 --moving 5
 *
 * Registers hold big-endian float32 values, value i in registers 2i and 2i+1. Of each hundred neighbouring values
 * the first `--moving` are new in every scan of a connection (a scan begins where the address does not rise), the
 * others never move. `--port 0` takes a free port for each; the ports are printed, one line, before anything is served.
 * `--drop-every N` leaves every Nth request of a connection unanswered, `--ignore-others 1` every function but 1-4.
 * `--registers N` says on stderr how long after it was accepted a connection had its first N registers.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ADU = 260, IN_BYTES = 4096, MAX_EVENTS = 256, REQUEST_BYTES = 12, SHORTEST_BYTES = 11 };

struct connection {
    int fd;
    int is_listener;
    uint32_t scan;
    uint32_t requests;
    int64_t accepted_ns; /* 0 once its first registers are reported. */
    uint16_t last_address;
    size_t have;
    uint8_t in[IN_BYTES];
};

static int moving_percent = 100;
static uint32_t drop_every = 0;
static uint32_t registers_reported = 0;
static int ignores_others = 0;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

static void put16(uint8_t *at, unsigned value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* Bits of value `i` in scan `scan`: a level of its own, and a jitter of 12 bits where it moves. */
static uint32_t value_bits(uint32_t i, uint32_t scan) {
    float value = 20.0f + (float)(i % 1000) * 0.25f;
    if ((int)(i % 100) < moving_percent) {
        uint32_t mixed = (i + 1) * 2654435761u ^ scan * 2246822519u;
        mixed ^= mixed >> 15;
        mixed *= 2654435761u;
        value += (float)(mixed >> 20) * 0.001f;
    }
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static uint16_t register_at(uint32_t address, uint32_t scan) {
    uint32_t bits = value_bits(address / 2, scan);
    return (uint16_t)(address % 2 ? bits : bits >> 16);
}

static void fill_registers(uint8_t *out, uint32_t address, uint32_t count, uint32_t scan) {
    uint32_t end = address + count;
    if (address % 2 && address < end) {
        put16(out, register_at(address++, scan));
        out += 2;
    }
    for (; address + 1 < end; address += 2, out += 4) {
        uint32_t bits = htonl(value_bits(address / 2, scan));
        memcpy(out, &bits, sizeof bits);
    }
    if (address < end) put16(out, register_at(address, scan));
}

/* Answers one request; returns the bytes of the answer. */
static size_t answer(struct connection *c, const uint8_t *request, uint8_t *out) {
    uint8_t function = request[7];
    uint16_t address = get16(request + 8), count = get16(request + 10);
    int is_bits = function == 1 || function == 2;
    unsigned data_bytes = is_bits ? (count + 7u) / 8u : count * 2u;
    if (address <= c->last_address) c->scan++;
    c->last_address = address;
    c->requests++;
    if (drop_every && c->requests % drop_every == 0) return 0;
    if (ignores_others && (function < 1 || function > 4)) return 0;
    memcpy(out, request, 7);
    unsigned refusal = function < 1 || function > 4 || count == 0 ? 1 : address + count > 65536u ? 2 : data_bytes > 250 ? 3 : 0;
    if (refusal) {
        put16(out + 4, 3);
        out[7] = function | 0x80;
        out[8] = (uint8_t)refusal;
        return 9;
    }
    put16(out + 4, 3 + data_bytes);
    out[7] = function;
    out[8] = (uint8_t)data_bytes;
    if (is_bits)
        memset(out + 9, c->scan & 1 ? 0x55 : 0xAA, data_bytes);
    else
        fill_registers(out + 9, address, count, c->scan);
    if (registers_reported && c->accepted_ns && address + count >= registers_reported) {
        fprintf(stderr, "first registers after %lld us\n", (long long)(now_ns() - c->accepted_ns) / 1000);
        c->accepted_ns = 0;
    }
    return 9 + data_bytes;
}

static int send_all(int fd, const uint8_t *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) continue;
        if (sent <= 0) return -1;
        data += sent;
        size -= (size_t)sent;
    }
    return 0;
}

/* Serves what has arrived; returns -1 when the connection is over. */
static int serve(struct connection *c) {
    static uint8_t out[IN_BYTES / SHORTEST_BYTES * MAX_ADU + MAX_ADU];
    ssize_t got = recv(c->fd, c->in + c->have, sizeof c->in - c->have, 0);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0) return -1;
    c->have += (size_t)got;
    size_t at = 0, filled = 0;
    for (size_t size; c->have - at >= SHORTEST_BYTES; at += size) {
        size = 6u + get16(c->in + at + 4);
        if (get16(c->in + at + 2) != 0 || size < SHORTEST_BYTES || size > MAX_ADU) return -1;
        if (c->have - at < size) break;
        filled += answer(c, c->in + at, out + filled);
    }
    memmove(c->in, c->in + at, c->have - at);
    c->have -= at;
    return filled ? send_all(c->fd, out, filled) : 0;
}

static void watch(int epoll, struct connection *c) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
}

static void listen_on(int epoll, int port) {
    struct connection *c = calloc(1, sizeof *c);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof address;
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    c->is_listener = 1;
    setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(c->fd, (struct sockaddr *)&address, sizeof address) || listen(c->fd, 1024)) die("listen");
    getsockname(c->fd, (struct sockaddr *)&address, &size);
    printf("%d ", ntohs(address.sin_port));
    watch(epoll, c);
}

static void accept_from(int epoll, const struct connection *listener) {
    static uint32_t accepted = 0;
    int on = 1, fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    struct connection *c = calloc(1, sizeof *c);
    if (!c) die("calloc");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->fd = fd;
    c->accepted_ns = now_ns();
    c->scan = 1000003u * ++accepted; /* No two devices say the same: it would compress away. */
    c->last_address = UINT16_MAX;
    watch(epoll, c);
}

int main(int argc, char **argv) {
    int port = 0, ports = 1;
    struct rlimit files = {65536, 65536};
    for (int i = 1; i + 1 < argc; i += 2) {
        int value = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--port")) port = value;
        else if (!strcmp(argv[i], "--ports")) ports = value;
        else if (!strcmp(argv[i], "--moving")) moving_percent = value;
        else if (!strcmp(argv[i], "--drop-every")) drop_every = (uint32_t)value;
        else if (!strcmp(argv[i], "--ignore-others")) ignores_others = value;
        else if (!strcmp(argv[i], "--registers")) registers_reported = (uint32_t)value;
        else return fprintf(stderr, "unknown option %s\n", argv[i]), 2;
    }
    setrlimit(RLIMIT_NOFILE, &files);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < ports; i++) listen_on(epoll, port ? port + i : 0);
    printf("\n");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[MAX_EVENTS];
        int ready = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->is_listener) accept_from(epoll, c);
            else if (serve(c)) {
                close(c->fd);
                free(c);
            }
        }
    }
}
