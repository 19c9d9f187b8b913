/* fan: the load generator of fan-out. It shares no code with the servers.
 *
 *   cc -std=gnu11 -O3 -march=native -o fan fan.c
 *   fan --port P [--host 127.0.0.1] [--subs 1000] [--size 64] [--window 1] [--burst 1] [--secs 3] [--warmup 1]
 *       [--pid SERVER_PID] [--cpu N]
 *
 * The server sends each message that it receives to every connection, its sender included, with the
 * same opcode. Connection 0 publishes binary messages; at most `window` of them have not been
 * delivered to everyone yet, and `burst` of them are written with one call. One thread, epoll.
 *
 * Each subscriber must get every message whole, once and in order; otherwise the exit status is 3.
 * The report is one line of JSON: deliveries per second, CPU time of the server for each, and the
 * time from publishing a message to each delivery and to the last one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S  1000000000ull
#define READ_BYTES (1 << 18)
#define PAYLOAD_MIN 24                /* space for the sequence number and the time */

typedef struct {
    int fd;
    uint64_t next;                    /* the sequence number that it must get next */
    uint8_t *buf;                     /* the start of a frame whose rest has not arrived */
    size_t have;
} subscriber;

static const char *host = "127.0.0.1";
static int port, subs = 1000, window = 1, burst = 1, secs = 3, warmup = 1, cpu = -1, pid;
static size_t size = 64;

static size_t client_header, client_frame, server_header, server_frame;
static subscriber *all;
static uint64_t *born;                /* by sequence number modulo `window`: when it was published */
static uint32_t *got;                 /* and how many subscribers have it */
static uint64_t sent, done, deliveries;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "fan: %s", what);
    if (errno) fprintf(stderr, " (%s)", strerror(errno));
    fprintf(stderr, "\n");
    exit(3);
}

/* ---------- latencies: histograms whose buckets are 1/32 of their value wide ---------- */
enum { EACH, LAST };
static uint64_t hist[2][64 * 64];

static void record(int h, uint64_t ns) {
    int e = ns < 64 ? 0 : 58 - __builtin_clzll(ns);
    uint64_t m = e ? (ns >> e) & 63 : ns;
    hist[h][e * 64 + m]++;
}

static double percentile_us(int h, double p) {
    uint64_t total = 0, count = 0;
    for (int i = 0; i < 64 * 64; i++) total += hist[h][i];
    for (int i = 0; i < 64 * 64; i++) {
        count += hist[h][i];
        if (count && count >= total * p) {
            int e = i / 64;
            return (e ? (uint64_t)(i % 64) << e : (uint64_t)i) / 1e3;
        }
    }
    return 0;
}

/* ---------- CPU time ---------- */
static double server_cpu_s(void) {
    double total = 0;
    char path[64];
    if (!pid) return 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (!tasks) return 0;
    struct dirent *task;
    while ((task = readdir(tasks))) {
        if (task->d_name[0] == '.') continue;
        char file[600];
        snprintf(file, sizeof file, "%s/%s/schedstat", path, task->d_name);
        FILE *f = fopen(file, "r");
        unsigned long long ns;
        if (!f) continue;
        if (fscanf(f, "%llu", &ns) == 1) total += ns / 1e9;
        fclose(f);
    }
    closedir(tasks);
    return total;
}

static double own_cpu_s(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* ---------- connections ---------- */
static int dial(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    if (connect(fd, (void *)&address, sizeof address)) die("connect");
    char request[256];
    int n = snprintf(request, sizeof request,
                     "GET / HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                     host, port);
    if (write(fd, request, n) != n) die("the upgrade cannot be written");
    /* Byte by byte, so that no message is read with the answer. */
    char answer[4096];
    for (int have = 0; have < 4 || memcmp(answer + have - 4, "\r\n\r\n", 4);) {
        if (have == sizeof answer || read(fd, answer + have, 1) <= 0) die("the upgrade has no answer");
        have++;
    }
    if (strncmp(answer, "HTTP/1.1 101", 12)) {
        errno = 0;
        die("the upgrade was refused");
    }
    return fd;
}

static void connect_all(int ep) {
    all = calloc(subs, sizeof *all);
    for (int i = 0; i < subs; i++) {
        all[i].fd = dial();
        fcntl(all[i].fd, F_SETFL, O_NONBLOCK);
        all[i].buf = malloc(server_frame);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, all[i].fd, &event);
    }
    /* A server may subscribe a connection after it has answered. */
    usleep(300000);
}

/* ---------- messages ---------- */
static void publish(uint8_t *out) {
    uint64_t t = now();
    for (int k = 0; k < burst; k++) {
        uint8_t *frame = out + k * client_frame, *at = frame + 2;
        uint64_t seq = sent + k;
        frame[0] = 0x82;
        if (size > 65535) {
            frame[1] = 0x80 | 127;
            for (int i = 0; i < 8; i++) *at++ = (uint64_t)size >> (56 - 8 * i);
        } else if (size > 125) {
            frame[1] = 0x80 | 126;
            *at++ = size >> 8;
            *at++ = size;
        } else {
            frame[1] = 0x80 | size;
        }
        memset(at, 0, 4);             /* a mask of zeros */
        at += 4;
        memset(at, 'x', size);
        memcpy(at, &seq, 8);
        memcpy(at + 8, &t, 8);
        born[seq % window] = t;
        got[seq % window] = 0;
    }
    for (size_t written = 0; written < client_frame * burst;) {
        ssize_t n = send(all[0].fd, out + written, client_frame * burst - written, MSG_NOSIGNAL);
        if (n >= 0) written += n;
        else if (errno == EAGAIN) usleep(50);
        else die("send");
    }
    sent += burst;
}

static void check(subscriber *s, const uint8_t *frame, uint64_t t) {
    uint64_t seq, published;
    errno = 0;
    if (frame[0] != 0x82) die("a message has another opcode");
    memcpy(&seq, frame + server_header, 8);
    memcpy(&published, frame + server_header + 8, 8);
    if (seq != s->next) {
        fprintf(stderr, "fan: a subscriber got message %lu instead of %lu\n", (long)seq, (long)s->next);
        exit(3);
    }
    if (frame[server_frame - 1] != 'x') die("a payload differs");
    s->next++;
    deliveries++;
    record(EACH, t - published);
    if (++got[seq % window] == (uint32_t)subs) {
        done++;
        record(LAST, t - born[seq % window]);
    }
}

static void on_readable(subscriber *s, uint8_t *buf) {
    ssize_t n = read(s->fd, buf, READ_BYTES);
    if (n < 0) {
        if (errno == EAGAIN) return;
        die("read");
    }
    if (!n) {
        errno = 0;
        die("the server closed a connection");
    }
    uint64_t t = now();
    uint8_t *at = buf;
    for (size_t left = n; left;) {
        uint8_t *frame = at;
        size_t taken = server_frame;
        if (s->have || left < server_frame) {
            taken = server_frame - s->have < left ? server_frame - s->have : left;
            memcpy(s->buf + s->have, at, taken);
            s->have += taken;
            if (s->have < server_frame) return;
            s->have = 0;
            frame = s->buf;
        }
        at += taken;
        left -= taken;
        check(s, frame, t);
    }
}

static void parse(int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        const char *option = argv[i], *value = argv[i + 1];
        if (!value) {
            fprintf(stderr, "fan: %s needs a value\n", option);
            exit(2);
        } else if (!strcmp(option, "--host")) host = value;
        else if (!strcmp(option, "--port")) port = atoi(value);
        else if (!strcmp(option, "--subs")) subs = atoi(value);
        else if (!strcmp(option, "--size")) size = atol(value);
        else if (!strcmp(option, "--window")) window = atoi(value);
        else if (!strcmp(option, "--burst")) burst = atoi(value);
        else if (!strcmp(option, "--secs")) secs = atoi(value);
        else if (!strcmp(option, "--warmup")) warmup = atoi(value);
        else if (!strcmp(option, "--pid")) pid = atoi(value);
        else if (!strcmp(option, "--cpu")) cpu = atoi(value);
        else {
            fprintf(stderr, "fan: %s is not an option\n", option);
            exit(2);
        }
    }
    if (size < PAYLOAD_MIN) size = PAYLOAD_MIN;
    if (burst > window) burst = window;
    server_header = 2 + (size > 65535 ? 8 : size > 125 ? 2 : 0);
    client_header = server_header + 4;
    server_frame = server_header + size;
    client_frame = client_header + size;
}

int main(int argc, char **argv) {
    parse(argc, argv);
    if (cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    int ep = epoll_create1(0), is_measuring = 0;
    connect_all(ep);
    uint8_t *out = malloc(client_frame * burst), *buf = malloc(READ_BYTES);
    born = calloc(window, sizeof *born);
    got = calloc(window, sizeof *got);
    uint64_t t = now(), begin = t + warmup * NS_PER_S, end = begin + secs * NS_PER_S;
    uint64_t deliveries_before = 0, done_before = 0;
    double server_before = 0, own_before = own_cpu_s();
    struct epoll_event events[512];
    while (t < end) {
        while (sent - done + burst <= (uint64_t)window) publish(out);
        int n = epoll_wait(ep, events, 512, 1000);
        t = now();
        if (!is_measuring && t >= begin) {
            is_measuring = 1;
            begin = t;
            server_before = server_cpu_s();
            own_before = own_cpu_s();
            deliveries_before = deliveries;
            done_before = done;
            memset(hist, 0, sizeof hist);
        }
        if (n == 0) {
            fprintf(stderr, "fan: nothing for a second; %lu published, %lu delivered to all\n", (long)sent, (long)done);
            return 3;
        }
        for (int i = 0; i < n; i++) on_readable(events[i].data.ptr, buf);
    }
    double s = (t - begin) / 1e9, server = server_cpu_s() - server_before, own = own_cpu_s() - own_before;
    uint64_t counted = deliveries - deliveries_before;
    if (!counted) {
        fprintf(stderr, "fan: nothing was delivered\n");
        return 3;
    }
    printf("{\"subs\":%d,\"size\":%zu,\"window\":%d,\"burst\":%d,\"published_per_s\":%.0f,\"deliveries_per_s\":%.0f,"
           "\"server_cpu_us_per_delivery\":%.4f,\"server_cores\":%.2f,\"load_cores\":%.2f,"
           "\"each_p50_us\":%.0f,\"each_p99_us\":%.0f,\"last_p50_us\":%.0f,\"last_p99_us\":%.0f}\n",
           subs, size, window, burst, (done - done_before) / s, counted / s, server * 1e6 / counted, server / s, own / s,
           percentile_us(EACH, .5), percentile_us(EACH, .99), percentile_us(LAST, .5), percentile_us(LAST, .99));
}
