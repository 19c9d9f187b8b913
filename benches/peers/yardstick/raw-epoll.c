/* raw-epoll: the yardstick, a minimal echo server.
 *
 *   raw-epoll THREADS        prints `listening on 127.0.0.1:PORT`, with a free port
 *
 * THREADS threads, each with its own SO_REUSEPORT listener, edge-triggered epoll and read buffer.
 * Frames are echoed in place: unmasked, with the shorter header in front, and all frames of a read
 * in one send(). A frame that does not fit into a read gets a buffer of its own, and later reads go
 * straight into it. A connection is not read while it cannot be written.
 *
 * It omits checks that a real server needs: UTF-8, reserved bits and opcodes, the order of
 * fragments (each is echoed as received), the shortest encoding of lengths, and every header of
 * the request except the key. It has no limits except MESSAGE_MAX, no timeouts, no shutdown except
 * by a signal, and no handler.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <immintrin.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "switching.h"

#define RBUF   (512u * 1024)          /* one read */
#define SMALL  (16u * 1024)           /* partial frames up to this size are carried raw */
#define HEAD   (SMALL + 64)           /* space for the carried bytes in front of the read */
#define MESSAGE_MAX (128ull << 20)
#define ROUNDS 16                     /* full reads of one connection before the others get a turn */
#define KEEP   (1u << 20)             /* big buffers up to this size stay with their connection */
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* A connection, without buffers while it is idle. */
typedef struct {
    int fd;
    uint8_t state;                    /* 0 handshake, 1 open, 2 close once flushed */
    uint8_t again;                    /* on the thread's again list */
    uint8_t readable;                 /* readable edge seen, socket not drained yet */
    uint8_t rdhup;
    uint32_t carry_len, carry_cap;
    uint8_t *carry;
    uint8_t *big;                     /* frame in progress: server header + unmasked payload */
    size_t big_fill, big_len, big_cap;
    size_t big_phase;                 /* payload offset within big == header length */
    uint32_t big_key;
    uint8_t *pend;                    /* output not yet accepted by the kernel */
    size_t pend_off, pend_len, pend_cap;
} conn;

/* A thread. Threads share nothing. */
typedef struct {
    int ep, lfd;
    uint8_t *buf;                     /* HEAD + RBUF (+ slack) */
    conn **again;
    int again_n, again_cap;
    uint8_t *cache;                   /* one big buffer, reused */
    size_t cache_cap;
} thr;

/* ---------- unmask: dst <= src, may overlap (forward move) ---------- */
static inline uint32_t ld32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline uint64_t ld64(const void *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline void st32(void *p, uint32_t v) { memcpy(p, &v, 4); }
static inline void st64(void *p, uint64_t v) { memcpy(p, &v, 8); }
static inline uint32_t rotkey(uint32_t k, size_t n) { return (uint32_t)__rord(k, (int)((n & 3) * 8)); }

#if defined(__AVX512F__)
typedef __m512i vec;
#define VLD(p) _mm512_loadu_si512((const void *)(p))
#define VST(p, v) _mm512_storeu_si512((void *)(p), v)
#define VXOR _mm512_xor_si512
#define VSET(k) _mm512_set1_epi32((int)(k))
#define V 64
#elif defined(__AVX2__)
typedef __m256i vec;
#define VLD(p) _mm256_loadu_si256((const __m256i *)(p))
#define VST(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define VXOR _mm256_xor_si256
#define VSET(k) _mm256_set1_epi32((int)(k))
#define V 32
#else
typedef __m128i vec;
#define VLD(p) _mm_loadu_si128((const __m128i *)(p))
#define VST(p, v) _mm_storeu_si128((__m128i *)(p), v)
#define VXOR _mm_xor_si128
#define VSET(k) _mm_set1_epi32((int)(k))
#define V 16
#endif
#define XLD(p) _mm_loadu_si128((const __m128i *)(p))
#define XST(p, v) _mm_storeu_si128((__m128i *)(p), v)

static inline void unmask(uint8_t *d, const uint8_t *s, size_t n, uint32_t key) {
    if (n >= 2 * V) {
        /* the (overlapping) tail is loaded before anything is stored */
        vec k = VSET(key), kt = VSET(rotkey(key, n - V));
        vec tail = VXOR(VLD(s + n - V), kt);
        size_t i = 0;
        for (; i + 4 * V <= n; i += 4 * V) {
            vec a = VLD(s + i), b = VLD(s + i + V), c = VLD(s + i + 2 * V), e = VLD(s + i + 3 * V);
            VST(d + i, VXOR(a, k)); VST(d + i + V, VXOR(b, k));
            VST(d + i + 2 * V, VXOR(c, k)); VST(d + i + 3 * V, VXOR(e, k));
        }
        for (; i + V <= n; i += V) VST(d + i, VXOR(VLD(s + i), k));
        VST(d + n - V, tail);
    } else if (n >= 16) {
        __m128i k = _mm_set1_epi32((int)key), kt = _mm_set1_epi32((int)rotkey(key, n - 16));
        __m128i tail = _mm_xor_si128(XLD(s + n - 16), kt);
        for (size_t i = 0; i + 16 <= n; i += 16) XST(d + i, _mm_xor_si128(XLD(s + i), k));
        XST(d + n - 16, tail);
    } else if (n >= 8) {
        uint64_t k = (uint64_t)key << 32 | key, kr = rotkey(key, n - 8);
        uint64_t a = ld64(s) ^ k, b = ld64(s + n - 8) ^ (kr << 32 | kr);
        st64(d, a); st64(d + n - 8, b);
    } else if (n >= 4) {
        uint32_t a = ld32(s) ^ key, b = ld32(s + n - 4) ^ rotkey(key, n - 4);
        st32(d, a); st32(d + n - 4, b);
    } else {
        for (size_t i = 0; i < n; i++) d[i] = s[i] ^ (uint8_t)(key >> (8 * i));
    }
}

/* ---------- buffers ---------- */
static void *xrealloc(void *p, size_t n) {
    p = realloc(p, n);
    if (!p) { perror("realloc"); abort(); }
    return p;
}

static uint8_t *big_get(thr *t, size_t n, size_t *cap) {
    if (t->cache && t->cache_cap >= n && n > KEEP) {
        uint8_t *p = t->cache;
        *cap = t->cache_cap;
        t->cache = NULL;
        return p;
    }
    *cap = n;
    return xrealloc(NULL, n);
}

static void big_put(thr *t, uint8_t *p, size_t cap) {
    if (cap > KEEP && (!t->cache || t->cache_cap < cap)) {
        free(t->cache);
        t->cache = p;
        t->cache_cap = cap;
    } else {
        free(p);
    }
}

static void conn_close(thr *t, conn *c) {
    if (c->again)
        for (int i = 0; i < t->again_n; i++)
            if (t->again[i] == c) t->again[i] = NULL;
    close(c->fd);
    free(c->carry);
    if (c->big) big_put(t, c->big, c->big_cap);
    if (c->pend) big_put(t, c->pend, c->pend_cap);
    free(c);
}

static void pend_add(conn *c, const uint8_t *p, size_t n) {
    if (c->pend_off + c->pend_len + n > c->pend_cap) {
        if (c->pend_off) {
            memmove(c->pend, c->pend + c->pend_off, c->pend_len);
            c->pend_off = 0;
        }
        if (c->pend_len + n > c->pend_cap) {
            size_t cap = c->pend_cap * 2 > c->pend_len + n ? c->pend_cap * 2 : c->pend_len + n;
            c->pend = xrealloc(c->pend, cap);
            c->pend_cap = cap;
        }
    }
    memcpy(c->pend + c->pend_off + c->pend_len, p, n);
    c->pend_len += n;
}

static void carry_set(conn *c, const uint8_t *p, size_t n) {
    if (n > c->carry_cap) {
        uint32_t cap = n <= 256 ? 256 : HEAD;
        c->carry = xrealloc(c->carry, cap);
        c->carry_cap = cap;
    }
    memcpy(c->carry, p, n);
    c->carry_len = (uint32_t)n;
}

/* ---------- output; 0 ok (maybe pending), -1 error ---------- */
static int out1(conn *c, const uint8_t *p, size_t n) {
    if (likely(!c->pend_len)) {
        ssize_t w = send(c->fd, p, n, MSG_NOSIGNAL);
        if (likely(w == (ssize_t)n)) return 0;
        if (w < 0) {
            if (errno != EAGAIN && errno != EINTR) return -1;
            if (errno == EINTR) return out1(c, p, n);
            w = 0;
        }
        p += w;
        n -= (size_t)w;
    }
    pend_add(c, p, n);
    return 0;
}

/* the finished big frame, then n bytes of further frames.  Takes care of c->big. */
static int out_big(thr *t, conn *c, const uint8_t *p, size_t n) {
    struct iovec v[2] = {{c->big, c->big_len}, {(void *)p, n}};
    struct msghdr mh = {.msg_iov = v, .msg_iovlen = n ? 2 : 1};
    ssize_t w;
    do w = sendmsg(c->fd, &mh, MSG_NOSIGNAL); while (w < 0 && errno == EINTR);
    if (w < 0) {
        if (errno != EAGAIN) return -1;
        w = 0;
    }
    size_t u = (size_t)w, bl = c->big_len;
    if (u < bl) {                       /* the rest of big becomes the pending output, uncopied */
        if (c->pend) big_put(t, c->pend, c->pend_cap);
        c->pend = c->big;
        c->pend_cap = c->big_cap;
        c->pend_off = u;
        c->pend_len = bl - u;
        c->big = NULL;
        u = 0;
    } else {
        u -= bl;
        if (c->big_cap > KEEP) {
            big_put(t, c->big, c->big_cap);
            c->big = NULL;
        }
    }
    c->big_len = 0;
    if (u < n) pend_add(c, p + u, n - u);
    return 0;
}

/* ---------- handshake ---------- */
static int handshake(conn *c, const uint8_t *p, size_t n, size_t *used) {
    const uint8_t *e = memmem(p, n, "\r\n\r\n", 4);
    if (!e) return n < SMALL ? 0 : -1;
    *used = (size_t)(e + 4 - p);
    char r[SWITCHING_MAX];
    size_t length = n < 4 || memcmp(p, "GET ", 4) ? 0 : switching(p, e, r);
    if (!length) {
        static const char bad[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        send(c->fd, bad, sizeof bad - 1, MSG_NOSIGNAL);
        return -1;
    }
    c->state = 1;
    return out1(c, (uint8_t *)r, length) ? -1 : 1;
}

/* ---------- frames in [p,e): echoed in place to [*o0,*o1) ---------- */
static int ws_frames(thr *t, conn *c, uint8_t *p, uint8_t *e, uint8_t **o0, uint8_t **o1) {
    uint8_t *o = p + 4;               /* a server header is 4 bytes shorter: the first payload stays */
    *o0 = o;
    while (e - p >= 6) {
        uint8_t b0 = p[0];
        unsigned l7 = p[1] & 127;
        if (unlikely(!(p[1] & 128))) return -1;
        size_t len, h;                /* h: server header length */
        uint64_t x = 0;
        if (l7 < 126) {
            len = l7;
            h = 2;
        } else if (l7 == 126) {
            if (e - p < 8) break;
            len = (size_t)p[2] << 8 | p[3];
            h = 4;
        } else {
            if (e - p < 14) break;
            x = ld64(p + 2);
            len = __builtin_bswap64(x);
            h = 10;
            if (unlikely(len > MESSAGE_MAX)) return -1;
        }
        uint32_t key = ld32(p + h);
        uint8_t *src = p + h + 4;
        if (unlikely(b0 & 8)) {       /* control */
            unsigned op = b0 & 15;
            if (len > 125) return -1;
            if ((size_t)(e - src) < len) break;
            if (op == 10) {           /* pong: dropped */
                p = src + len;
                continue;
            }
            if (op == 9) b0 = 0x8A;
            else if (op == 8) b0 = 0x88, c->state = 2;
            else return -1;
        } else if (unlikely((size_t)(e - src) < len)) {
            if (h + 4 + len <= SMALL) break;
            /* big frame: gets its own buffer, later reads go straight into it */
            size_t part = (size_t)(e - src);
            if (c->big_cap < h + len || !c->big) {
                if (c->big) big_put(t, c->big, c->big_cap);
                c->big = big_get(t, h + len, &c->big_cap);
            }
            c->big[0] = b0;
            c->big[1] = (uint8_t)l7;
            if (h == 4) memcpy(c->big + 2, p + 2, 2);
            else if (h == 10) memcpy(c->big + 2, p + 2, 8);
            unmask(c->big + h, src, part, key);
            c->big_phase = h;
            c->big_fill = h + part;
            c->big_len = h + len;
            c->big_key = key;
            p = e;
            break;
        }
        /* header: read in full above, so may be overwritten now */
        if (h == 2) {
            o[0] = b0;
            o[1] = (uint8_t)len;
        } else if (h == 4) {
            st32(o, b0 | 126u << 8 | (uint32_t)__builtin_bswap16((uint16_t)len) << 16);
        } else {
            o[0] = b0;
            o[1] = 127;
            st64(o + 2, x);
        }
        unmask(o + h, src, len, key);
        o += h + len;
        p = src + len;
        if (unlikely(c->state == 2)) {
            p = e;
            break;
        }
    }
    *o1 = o;
    if (p < e) carry_set(c, p, (size_t)(e - p));
    return 0;
}

static void push_again(thr *t, conn *c) {
    if (c->again) return;
    if (t->again_n == t->again_cap) {
        t->again_cap = t->again_cap ? t->again_cap * 2 : 64;
        t->again = xrealloc(t->again, sizeof(conn *) * (size_t)t->again_cap);
    }
    t->again[t->again_n++] = c;
    c->again = 1;
}

static void on_readable(thr *t, conn *c) {
    uint8_t *rp = t->buf + HEAD;
    for (int round = 0;; round++) {
        if (unlikely(c->pend_len)) return;   /* EPOLLOUT resumes */
        if (unlikely(c->state == 2)) return;
        if (unlikely(round == ROUNDS)) {
            push_again(t, c);
            return;
        }
        ssize_t n;
        size_t want = RBUF, direct = 0;
        if (unlikely(c->big_len)) {
            direct = c->big_len - c->big_fill;
            struct iovec v[2] = {{c->big + c->big_fill, direct}, {rp, RBUF}};
            n = readv(c->fd, v, 2);
            want += direct;
        } else {
            n = recv(c->fd, rp, RBUF, 0);
        }
        if (unlikely(n <= 0)) {
            if (n < 0 && errno == EINTR) continue;
            if (n < 0 && errno == EAGAIN) {
                c->readable = 0;
                return;
            }
            if (n == 0 && c->pend_len) {        /* half-closed: send the pending output first */
                c->state = 2;
                return;
            }
            conn_close(t, c);
            return;
        }
        uint8_t *p = rp, *e = rp + n;
        if (unlikely(c->big_len)) {
            size_t got = (size_t)n < direct ? (size_t)n : direct;
            uint8_t *q = c->big + c->big_fill;
            unmask(q, q, got, rotkey(c->big_key, c->big_fill - c->big_phase));
            c->big_fill += got;
            e = rp + ((size_t)n - got);
            if (c->big_fill == c->big_len) {
                /* later frames may start another big one, which must not reuse c->big */
                uint8_t *b = c->big, *o0 = rp, *o1 = rp;
                size_t bl = c->big_len, bc = c->big_cap;
                if (e > rp) {
                    c->big = NULL;
                    c->big_len = c->big_cap = 0;
                    if (ws_frames(t, c, rp, e, &o0, &o1)) {
                        big_put(t, b, bc);
                        conn_close(t, c);
                        return;
                    }
                    uint8_t *nb = c->big;
                    size_t nl = c->big_len, nc = c->big_cap;
                    c->big = b; c->big_len = bl; c->big_cap = bc;
                    if (out_big(t, c, o0, (size_t)(o1 - o0))) {
                        if (nb) big_put(t, nb, nc);
                        conn_close(t, c);
                        return;
                    }
                    if (nb) {
                        if (c->big) big_put(t, c->big, c->big_cap);
                        c->big = nb; c->big_len = nl; c->big_cap = nc;
                    }
                } else if (out_big(t, c, rp, 0)) {
                    conn_close(t, c);
                    return;
                }
            }
        } else {
            if (unlikely(c->carry_len)) {
                p -= c->carry_len;
                memcpy(p, c->carry, c->carry_len);
                c->carry_len = 0;
            }
            if (unlikely(c->state == 0)) {
                size_t used = 0;
                int r = (size_t)(e - p) <= SMALL ? handshake(c, p, (size_t)(e - p), &used) : -1;
                if (r < 0) {
                    conn_close(t, c);
                    return;
                }
                if (r == 0) {
                    carry_set(c, p, (size_t)(e - p));
                    p = e;
                } else {
                    p += used;
                }
            }
            if (likely(p < e)) {
                uint8_t *o0 = p, *o1 = e;
                if (unlikely(ws_frames(t, c, p, e, &o0, &o1))) {
                    conn_close(t, c);
                    return;
                }
                if (likely(o1 > o0) && unlikely(out1(c, o0, (size_t)(o1 - o0)))) {
                    conn_close(t, c);
                    return;
                }
            }
        }
        if (unlikely(c->state == 2) && !c->pend_len) {
            conn_close(t, c);
            return;
        }
        if (likely((size_t)n < want) && likely(!c->rdhup)) {   /* short read: drained */
            c->readable = 0;
            return;
        }
    }
}

static void on_writable(thr *t, conn *c) {
    while (c->pend_len) {
        ssize_t w = send(c->fd, c->pend + c->pend_off, c->pend_len, MSG_NOSIGNAL);
        if (w < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN) return;
            conn_close(t, c);
            return;
        }
        c->pend_off += (size_t)w;
        c->pend_len -= (size_t)w;
    }
    c->pend_off = 0;
    if (c->pend_cap > KEEP) {
        big_put(t, c->pend, c->pend_cap);
        c->pend = NULL;
        c->pend_cap = 0;
    }
    if (c->state == 2) {
        conn_close(t, c);
        return;
    }
    if (c->readable) on_readable(t, c);
}

static void *run(void *arg) {
    thr *t = arg;
    struct epoll_event ev[1024];
    for (;;) {
        int n = epoll_wait(t->ep, ev, 1024, t->again_n ? 0 : -1);
        if (n < 0) {
            if (errno == EINTR) continue;
            perror("epoll_wait");
            exit(1);
        }
        for (int i = 0; i < n; i++) {
            conn *c = ev[i].data.ptr;
            if (unlikely(!c)) {
                int fd;
                while ((fd = accept4(t->lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    int one = 1;
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    conn *k = calloc(1, sizeof *k);
                    k->fd = fd;
                    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = k};
                    if (epoll_ctl(t->ep, EPOLL_CTL_ADD, fd, &e)) {
                        close(fd);
                        free(k);
                    }
                }
                continue;
            }
            uint32_t f = ev[i].events;
            if (unlikely(f & EPOLLERR)) {
                conn_close(t, c);
                continue;
            }
            if (unlikely(f & (EPOLLRDHUP | EPOLLHUP))) c->rdhup = 1;
            if (f & EPOLLIN) c->readable = 1;
            if (unlikely(c->pend_len)) {
                if (f & EPOLLOUT) on_writable(t, c);   /* resumes reading when flushed */
            } else if (f & EPOLLIN) {
                on_readable(t, c);
            }
        }
        if (unlikely(t->again_n)) {
            int m = t->again_n;
            for (int i = 0; i < m; i++) {
                conn *c = t->again[i];
                if (!c) continue;
                t->again[i] = NULL;
                c->again = 0;
                on_readable(t, c);
            }
            memmove(t->again, t->again + m, sizeof(conn *) * (size_t)(t->again_n - m));
            t->again_n -= m;
        }
    }
    return NULL;
}

/* Starts a thread that listens on *port; 0 is replaced by the port that the kernel chose. */
static thr *thr_new(uint16_t *port) {
    thr *t = calloc(1, sizeof *t);
    if (posix_memalign((void **)&t->buf, 4096, HEAD + RBUF + 4096)) abort();
    t->lfd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    setsockopt(t->lfd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(t->lfd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(t->lfd, (struct sockaddr *)&a, sizeof a) || listen(t->lfd, 4096)) {
        perror("bind/listen");
        exit(1);
    }
    socklen_t length = sizeof a;
    getsockname(t->lfd, (struct sockaddr *)&a, &length);
    *port = ntohs(a.sin_port);
    t->ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(t->ep, EPOLL_CTL_ADD, t->lfd, &e);
    return t;
}

int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 1;
    uint16_t port = 0;
    struct rlimit r;
    if (!getrlimit(RLIMIT_NOFILE, &r)) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    thr *first = thr_new(&port);
    for (int i = 1; i < n; i++) {
        pthread_t p;
        pthread_create(&p, NULL, run, thr_new(&port));
    }
    printf("listening on 127.0.0.1:%u\n", port);
    fflush(stdout);
    run(first);
    return 0;
}
