/* What C needs for the same reads: an epoll client, one request outstanding per device, every answer checked and decoded.
 *
 *   gcc -O2 -o modbus_client modbus_client.c
 *   ./modbus_client --port 15020 --ports 100 --tags 500 --every-ms 100 --seconds 5
 *
 * Each device is scanned in requests of 124 registers: as many whole float32 values as one request holds.
 * Without `--every-ms` a scan follows the one before at once. With it the devices are spread over the interval, or
 * with `--volley 1` all due at the same instant.
 * Prints one JSON line: readings, CPU seconds of this process, readings per CPU second.
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

enum { MAX_ADU = 260, BLOCK = 124, MAX_REGISTERS = 20000, MAX_EVENTS = 256 };

struct device {
    int fd;
    uint16_t transaction;
    int at;        /* registers read so far in this scan */
    int asked;     /* registers of the request under way; 0 between scans */
    int64_t due_ns;
    size_t have;
    uint8_t in[MAX_ADU];
    uint8_t image[MAX_REGISTERS * 2];
    float *values;
};

static int registers = 1000;
static int64_t every_ns = 0;
static uint64_t readings = 0;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void ask(struct device *d) {
    int count = registers - d->at < BLOCK ? registers - d->at : BLOCK;
    if (++d->transaction == 0) d->transaction = 1;
    uint8_t out[12] = {(uint8_t)(d->transaction >> 8), (uint8_t)d->transaction, 0, 0, 0, 6, 1, 3,
                       (uint8_t)(d->at >> 8), (uint8_t)d->at, 0, (uint8_t)count};
    d->asked = count;
    d->have = 0;
    if (send(d->fd, out, sizeof out, MSG_NOSIGNAL) != sizeof out) die("send");
}

static void decode(struct device *d) {
    for (int i = 0; i < registers / 2; i++) {
        uint32_t bits;
        memcpy(&bits, d->image + 4 * i, 4);
        bits = ntohl(bits);
        memcpy(&d->values[i], &bits, 4);
    }
    readings += (uint64_t)registers / 2;
}

static void on_answer(struct device *d) {
    ssize_t got = recv(d->fd, d->in + d->have, sizeof d->in - d->have, 0);
    if (got <= 0) die("recv");
    d->have += (size_t)got;
    size_t size = 9 + 2 * (size_t)d->asked;
    if (d->have < size) return;
    const uint8_t expected[9] = {(uint8_t)(d->transaction >> 8), (uint8_t)d->transaction, 0, 0,
                                 (uint8_t)((size - 6) >> 8), (uint8_t)(size - 6), 1, 3, (uint8_t)(2 * d->asked)};
    if (d->have != size || memcmp(d->in, expected, sizeof expected)) die("wrong answer");
    memcpy(d->image + 2 * d->at, d->in + 9, size - 9);
    d->at += d->asked;
    if (d->at < registers) {
        ask(d);
        return;
    }
    decode(d);
    d->at = d->asked = 0;
    if (every_ns == 0) ask(d);
}

static int connect_to(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

/* Starts the scans that are due; returns nanoseconds until the next one. */
static int64_t start_due(struct device *devices, int count) {
    int64_t now = now_ns(), next = now + every_ns;
    for (int i = 0; i < count; i++) {
        struct device *d = &devices[i];
        if (d->due_ns <= now && !d->asked) {
            ask(d);
            while (d->due_ns <= now) d->due_ns += every_ns;
        }
        if (d->due_ns < next) next = d->due_ns;
    }
    return next <= now ? 0 : next - now;
}

int main(int argc, char **argv) {
    int port = 0, ports = 1, seconds = 5, is_volley = 0;
    char *list = NULL; /* Of ports, where they are not neighbours. */
    for (int i = 1; i + 1 < argc; i += 2) {
        int value = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--port")) port = value;
        else if (!strcmp(argv[i], "--ports-list")) list = argv[i + 1];
        else if (!strcmp(argv[i], "--ports")) ports = value;
        else if (!strcmp(argv[i], "--tags")) registers = 2 * value;
        else if (!strcmp(argv[i], "--every-ms")) every_ns = value * 1000000LL;
        else if (!strcmp(argv[i], "--volley")) is_volley = value;
        else if (!strcmp(argv[i], "--seconds")) seconds = value;
        else return fprintf(stderr, "unknown option %s\n", argv[i]), 2;
    }
    if (registers > MAX_REGISTERS) return fprintf(stderr, "at most %d tags\n", MAX_REGISTERS / 2), 2;
    if (list) ports = 1;
    for (const char *at = list; at && *at; at++) ports += *at == ',';
    struct device *devices = calloc((size_t)ports, sizeof *devices);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int64_t start = now_ns(), end = start + seconds * 1000000000LL;
    for (int i = 0; i < ports; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &devices[i]};
        devices[i].fd = connect_to(list ? (int)strtol(list, &list, 10) : port + i);
        if (list && *list == ',') list++;
        devices[i].values = calloc((size_t)registers / 2, sizeof(float));
        devices[i].due_ns = start + (is_volley ? 0 : every_ns * i / ports);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, devices[i].fd, &event)) die("epoll_ctl");
        if (every_ns == 0) ask(&devices[i]);
    }
    while (now_ns() < end) {
        struct epoll_event events[MAX_EVENTS];
        int64_t wait_ns = every_ns ? start_due(devices, ports) : 100000000;
        struct timespec wait = {wait_ns / 1000000000, wait_ns % 1000000000};
        int ready = epoll_pwait2(epoll, events, MAX_EVENTS, &wait, NULL);
        for (int i = 0; i < ready; i++) on_answer(events[i].data.ptr);
    }
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu_s = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + 1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    printf("{\"client\": \"c\", \"readings\": %llu, \"cpu_s\": %.3f, \"per_cpu_s\": %.0f}\n", (unsigned long long)readings, cpu_s,
           (double)readings / cpu_s);
    return 0;
}
