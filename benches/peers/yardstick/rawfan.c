/* rawfan: the yardstick of fan-out, a minimal server that sends each message to everyone.
 *
 *   cc -std=gnu11 -O3 -march=native -o rawfan rawfan.c
 *   rawfan                   prints `listening on 127.0.0.1:PORT`, with a free port
 *
 * One thread with edge-triggered epoll. Everything that one read delivers is unmasked once and sent
 * to every connection, its sender included, with one send() for each. It is the practical limit of
 * a server that uses epoll. A connection whose path begins with /echo gets its own messages back, and
 * no others.
 *
 * It omits what a real server needs: it expects a request in one read, checks no frame, sends
 * control frames to everyone like data, has no backlog (it spins while a socket is full), and reads
 * at most IN_BYTES for each edge, so a burst must be shorter.
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
#include <unistd.h>

#include "switching.h"

#define FDS_MAX  200000
#define IN_BYTES (1 << 18)

static int subscribers[FDS_MAX], subscriber_count;
static char is_upgraded[FDS_MAX];     /* by descriptor, as the next three */
static char is_echo[FDS_MAX];
static uint8_t *partial[FDS_MAX];     /* the start of a frame whose rest has not arrived */
static size_t partial_bytes[FDS_MAX];
static uint8_t in[IN_BYTES], out[IN_BYTES];

static void accept_all(int ep, int listener) {
    int fd;
    while ((fd = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
        is_upgraded[fd] = 0;
        partial_bytes[fd] = 0;
    }
}

static void drop(int fd) {
    for (int i = 0; i < subscriber_count; i++) {
        if (subscribers[i] == fd) {
            subscribers[i] = subscribers[--subscriber_count];
            break;
        }
    }
    close(fd);
}

/* Writes the frames in `in` to `out`, unmasked. Returns the bytes written; *taken are the bytes read. */
static size_t unmask(size_t length, size_t *taken) {
    size_t from = 0, to = 0;
    while (length - from >= 6) {
        uint64_t payload = in[from + 1] & 127;
        size_t header = 2;
        if (payload == 126) {
            payload = in[from + 2] << 8 | in[from + 3];
            header = 4;
        } else if (payload == 127) {
            payload = 0;
            for (int i = 0; i < 8; i++) payload = payload << 8 | in[from + 2 + i];
            header = 10;
        }
        if (length - from < header + 4 + payload) break;
        memcpy(out + to, in + from, header);
        out[to + 1] &= 127;
        uint8_t *mask = in + from + header, *masked = mask + 4;
        for (size_t i = 0; i < payload; i++) out[to + header + i] = masked[i] ^ mask[i & 3];
        to += header + payload;
        from += header + 4 + payload;
    }
    *taken = from;
    return to;
}

static void send_to(int fd, size_t length) {
    size_t sent = 0;
    while (sent < length) {
        ssize_t n = send(fd, out + sent, length - sent, MSG_NOSIGNAL);
        if (n >= 0) sent += n;
        else if (errno != EAGAIN) break;
    }
}

static void send_to_all(size_t length) {
    for (int i = 0; i < subscriber_count; i++) send_to(subscribers[i], length);
}

static void on_readable(int fd) {
    ssize_t n = recv(fd, in + partial_bytes[fd], sizeof in - partial_bytes[fd], 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) drop(fd);
        return;
    }
    if (!is_upgraded[fd]) {
        const uint8_t *end = memmem(in, n, "\r\n\r\n", 4);
        char answer[SWITCHING_MAX];
        size_t length = end ? switching(in, end, answer) : 0;
        if (!length) {
            close(fd);
            return;
        }
        is_upgraded[fd] = 1;
        is_echo[fd] = n > 9 && !memcmp(in, "GET /echo", 9);
        if (!is_echo[fd]) subscribers[subscriber_count++] = fd;
        send(fd, answer, length, MSG_NOSIGNAL);
        return;
    }
    if (partial_bytes[fd]) memcpy(in, partial[fd], partial_bytes[fd]);
    size_t length = partial_bytes[fd] + n, taken, written = unmask(length, &taken);
    partial_bytes[fd] = length - taken;
    if (partial_bytes[fd]) {
        if (!partial[fd]) partial[fd] = malloc(sizeof in);
        memcpy(partial[fd], in + taken, partial_bytes[fd]);
    }
    if (written && is_echo[fd]) send_to(fd, written);
    else if (written) send_to_all(written);
}

int main(void) {
    struct rlimit limit;
    if (!getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max < FDS_MAX ? limit.rlim_max : FDS_MAX;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    /* Accepted sockets inherit TCP_NODELAY. */
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)
        || getsockname(listener, (void *)&address, &length)) {
        perror("rawfan");
        return 1;
    }
    int ep = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[512];
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &event);
    printf("listening on 127.0.0.1:%u\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(ep, events, 512, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener) accept_all(ep, listener);
            else on_readable(events[i].data.fd);
        }
    }
}
