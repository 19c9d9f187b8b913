/* The answer to an upgrade request (RFC 6455 4.2.2), for the yardsticks: they check only the key.
 * The including file defines _GNU_SOURCE, for memmem. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SWITCHING_MAX 256             /* bytes of an answer, with some to spare */

static void sha1(const uint8_t *d, size_t n, uint8_t out[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t m[256] = {0};
    size_t blocks = (n + 8) / 64 + 1;   /* n <= 180 */
    memcpy(m, d, n);
    m[n] = 0x80;
    uint64_t bits = (uint64_t)n * 8;
    for (int i = 0; i < 8; i++) m[blocks * 64 - 1 - i] = (uint8_t)(bits >> (8 * i));
    for (size_t b = 0; b < blocks; b++) {
        uint32_t w[80];
        for (int i = 0; i < 16; i++) {
            uint32_t x;
            memcpy(&x, m + b * 64 + i * 4, 4);
            w[i] = __builtin_bswap32(x);
        }
        for (int i = 16; i < 80; i++) {
            uint32_t x = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
            w[i] = x << 1 | x >> 31;
        }
        uint32_t a = h[0], bb = h[1], c = h[2], dd = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) f = (bb & c) | (~bb & dd), k = 0x5A827999;
            else if (i < 40) f = bb ^ c ^ dd, k = 0x6ED9EBA1;
            else if (i < 60) f = (bb & c) | (bb & dd) | (c & dd), k = 0x8F1BBCDC;
            else f = bb ^ c ^ dd, k = 0xCA62C1D6;
            uint32_t t = (a << 5 | a >> 27) + f + e + k + w[i];
            e = dd; dd = c; c = bb << 30 | bb >> 2; bb = a; a = t;
        }
        h[0] += a; h[1] += bb; h[2] += c; h[3] += dd; h[4] += e;
    }
    for (int i = 0; i < 5; i++) {
        uint32_t x = __builtin_bswap32(h[i]);
        memcpy(out + 4 * i, &x, 4);
    }
}

static void b64_20(const uint8_t *in, char *out) {   /* 20 bytes -> 28 chars */
    static const char t[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int i = 0; i < 18; i += 3) {
        uint32_t v = in[i] << 16 | in[i + 1] << 8 | in[i + 2];
        *out++ = t[v >> 18]; *out++ = t[v >> 12 & 63]; *out++ = t[v >> 6 & 63]; *out++ = t[v & 63];
    }
    uint32_t v = in[18] << 16 | in[19] << 8;
    *out++ = t[v >> 18]; *out++ = t[v >> 12 & 63]; *out++ = t[v >> 6 & 63]; *out++ = '=';
}

/* Writes the answer to the request of which `end` is the empty line. Returns its length, or 0 if the
 * request has no key. */
static size_t switching(const uint8_t *request, const uint8_t *end, char answer[SWITCHING_MAX]) {
    const uint8_t *key = NULL;
    size_t key_length = 0;
    const uint8_t *line = memmem(request, (size_t)(end + 2 - request), "\r\n", 2);
    while (line && line < end) {
        line += 2;
        const uint8_t *line_end = memmem(line, (size_t)(end + 2 - line), "\r\n", 2);
        if (!line_end) break;
        if (line_end - line > 18 && !strncasecmp((const char *)line, "sec-websocket-key:", 18)) {
            key = line + 18;
            while (key < line_end && (*key == ' ' || *key == '\t')) key++;
            const uint8_t *key_end = line_end;
            while (key_end > key && (key_end[-1] == ' ' || key_end[-1] == '\t')) key_end--;
            key_length = (size_t)(key_end - key);
        }
        line = line_end;
    }
    if (key_length != 24) return 0;
    uint8_t hashed[60], digest[20];
    memcpy(hashed, key, 24);
    memcpy(hashed + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    sha1(hashed, 60, digest);
    int length = sprintf(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                 "Connection: Upgrade\r\nSec-WebSocket-Accept: ");
    b64_20(digest, answer + length);
    memcpy(answer + length + 28, "\r\n\r\n", 4);
    return (size_t)length + 32;
}
