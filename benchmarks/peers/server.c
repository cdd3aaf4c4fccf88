/* The benchmark's gateway: a WebSocket server that costs as little as it can, in one thread.
 *
 *     server PORT-FILE HELLO-FILE     writes its port, serves until it is killed (Linux)
 *
 * Rules kept here:
 *
 * - It speaks what the clients need of protocol 4: upgrade, challenge, connect, hello, pings, Close,
 *   ticks every 30 s; `seq` counts on each connection from 1. HELLO-FILE has hello-ok's payload.
 * - The top level of a request is really parsed: clients order its keys as they like.
 * - Methods: bench.echo answers its params; bench.size {"text"} how many bytes its params have;
 *   bench.text {"size"} a text of so many characters; bench.burst {"count","size"} an answer, then so
 *   many events `bench` with a text of that size. Any other is answered with {"ok":true}.
 * - A connection that begins with "CPU\n" is told this process's CPU seconds, each time it asks.
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

enum { CHUNK = 1 << 18, BATCH = 1 << 18, KEEP = 1 << 16, TICK_MS = 30000, MOST_EVENTS = 256 };

typedef struct { char *at; size_t size, room; } Text;
typedef struct { const char *at; size_t size; } Slice;

typedef struct Connection {
    int fd, upgraded, online, closing, watched;
    Text head;              /* the HTTP head, until it is whole */
    unsigned char header[14];
    size_t header_size;     /* bytes of a frame's header so far */
    int in_payload;
    uint64_t left;          /* bytes of the payload that have not come yet */
    uint64_t masked;        /* how many were unmasked */
    Text message;           /* fragments of a message so far */
    Text control;           /* a control frame's payload */
    Text out;
    size_t sent;
    uint64_t seq, burst, burst_size;
    struct Connection *next, *previous;
} Connection;

static Connection *first;
static Text hello, filler;
static char *chunk;

static void *must(void *memory) {
    if (!memory) abort();
    return memory;
}

static void reserve(Text *text, size_t more) {
    if (text->size + more <= text->room) return;
    text->room = (text->size + more) * 2;
    text->at = must(realloc(text->at, text->room));
}

static void append(Text *text, const void *data, size_t size) {
    reserve(text, size);
    memcpy(text->at + text->size, data, size);
    text->size += size;
}

static void put(Text *text, const char *data) { append(text, data, strlen(data)); }

/* An idle connection keeps no buffer that a large message once needed. */
static void clear(Text *text) {
    text->size = 0;
    if (text->room > KEEP) {
        free(text->at);
        text->at = NULL;
        text->room = 0;
    }
}

/* --- SHA-1 and base64, for the upgrade's answer (RFC 6455, 4.2.2) ------------------------------ */

static uint32_t rotated(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1(const unsigned char *data, size_t size, unsigned char out[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    unsigned char block[256] = {0};
    size_t whole = (size + 9 + 63) / 64 * 64; /* a key and the GUID are 60 bytes */
    if (whole > sizeof block) abort();
    memcpy(block, data, size);
    block[size] = 0x80;
    for (size_t i = 0; i < 8; i++) block[whole - 1 - i] = (unsigned char)((uint64_t)size * 8 >> 8 * i);
    for (size_t at = 0; at < whole; at += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++) {
            uint32_t word;
            memcpy(&word, block + at + 4 * i, 4);
            w[i] = ntohl(word);
        }
        for (int i = 16; i < 80; i++) w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999
                         : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                         : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                                  : (b ^ c ^ d) + 0xCA62C1D6;
            uint32_t next = rotated(a, 5) + f + e + w[i];
            e = d, d = c, c = rotated(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 5; i++) {
        uint32_t word = htonl(h[i]);
        memcpy(out + 4 * i, &word, 4);
    }
}

static void accept_token(const char *key, size_t size, char out[29]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char both[160], digest[21] = {0};
    memcpy(both, key, size);
    memcpy(both + size, guid, sizeof guid - 1);
    sha1(both, size + sizeof guid - 1, digest);
    for (int i = 0, o = 0; i < 21; i += 3, o += 4) {
        uint32_t three = digest[i] << 16 | digest[i + 1] << 8 | digest[i + 2];
        for (int j = 0; j < 4; j++) out[o + j] = letters[three >> (18 - 6 * j) & 63];
    }
    out[27] = '=';
    out[28] = 0;
}

/* --- JSON: the values of an object's keys, without decoding them ------------------------------- */

static const char *after_space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) at++;
    return at;
}

static const char *after_string(const char *at, const char *end) {
    for (at++; at < end; at++) { /* a quote ends it unless an odd number of \ stands before */
        const char *quote = memchr(at, '"', (size_t)(end - at));
        if (!quote) return end;
        size_t escapes = 0;
        while (quote[-1 - (long)escapes] == '\\') escapes++;
        if (escapes % 2 == 0) return quote + 1;
        at = quote;
    }
    return end;
}

static const char *after_value(const char *at, const char *end) {
    int depth = 0;
    while (at < end) {
        if (*at == '"') at = after_string(at, end);
        else if (*at == '{' || *at == '[') depth++, at++;
        else if (*at == '}' || *at == ']') {
            if (depth == 0) return at;
            depth--, at++;
        } else if (*at == ',' && depth == 0) return at;
        else at++;
        if (depth == 0 && (at[-1] == '"' || at[-1] == '}' || at[-1] == ']')) return at;
    }
    return end;
}

/* Return the text of a key's value; empty where there is none. */
static Slice value_of(Slice object, const char *key) {
    const char *at = after_space(object.at, object.at + object.size), *end = object.at + object.size;
    size_t length = strlen(key);
    for (at++; at < end;) {
        at = after_space(at, end);
        if (at >= end || *at != '"') break;
        const char *name = at + 1;
        at = after_string(at, end);
        int found = (size_t)(at - 1 - name) == length && !memcmp(name, key, length);
        at = after_space(at, end);
        if (at >= end || *at != ':') break;
        const char *value = after_space(at + 1, end);
        at = after_value(value, end);
        if (found) return (Slice){value, (size_t)(at - value)};
        at = after_space(at, end);
        if (at >= end || *at++ != ',') break;
    }
    return (Slice){"", 0};
}

static uint64_t number_of(Slice object, const char *key) {
    Slice value = value_of(object, key);
    uint64_t number = 0;
    for (size_t i = 0; i < value.size && value.at[i] >= '0' && value.at[i] <= '9'; i++)
        number = number * 10 + (uint64_t)(value.at[i] - '0');
    return number;
}

static int is(Slice value, const char *text) {
    return value.size == strlen(text) && !memcmp(value.at, text, value.size);
}

/* --- what it sends --------------------------------------------------------------------------- */

static void put_header(Text *out, int first_byte, uint64_t size) {
    unsigned char header[10] = {(unsigned char)first_byte};
    size_t length = 2;
    if (size < 126) header[1] = (unsigned char)size;
    else {
        length = size < 65536 ? 4 : 10;
        header[1] = size < 65536 ? 126 : 127;
        for (size_t i = 0; i < length - 2; i++)
            header[length - 1 - i] = (unsigned char)(size >> 8 * i);
    }
    append(out, header, length);
}

static void put_answer(Connection *to, Slice id, const char *before, Slice payload, const char *after) {
    static const char start[] = "{\"type\":\"res\",\"id\":", middle[] = ",\"ok\":true,\"payload\":";
    size_t size = sizeof start - 1 + id.size + sizeof middle - 1 + strlen(before) + payload.size
                  + strlen(after) + 1;
    put_header(&to->out, 0x81, size);
    reserve(&to->out, size);
    append(&to->out, start, sizeof start - 1);
    append(&to->out, id.at, id.size);
    append(&to->out, middle, sizeof middle - 1);
    put(&to->out, before);
    append(&to->out, payload.at, payload.size);
    put(&to->out, after);
    put(&to->out, "}");
}

static void put_event(Connection *to, const char *name, const char *before, Slice text, const char *after) {
    char start[80], end[48];
    int start_size = sprintf(start, "{\"type\":\"event\",\"event\":\"%s\",\"payload\":", name);
    int end_size = sprintf(end, ",\"seq\":%llu}", (unsigned long long)++to->seq);
    size_t length = strlen(before), rest = strlen(after);
    put_header(&to->out, 0x81, (uint64_t)start_size + length + text.size + rest + (uint64_t)end_size);
    append(&to->out, start, (size_t)start_size);
    append(&to->out, before, length);
    append(&to->out, text.at, text.size);
    append(&to->out, after, rest);
    append(&to->out, end, (size_t)end_size);
}

static Slice text_of(uint64_t size) {
    while (filler.size < size) put(&filler, "abcdefghijklmnopqrstuvwxyz012345");
    return (Slice){filler.at, size};
}

static double cpu_seconds(void) {
    struct timespec spent;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    return (double)spent.tv_sec + (double)spent.tv_nsec / 1e9;
}

/* --- what it is told -------------------------------------------------------------------------- */

static void on_message(Connection *from) {
    Slice message = {from->message.at, from->message.size};
    Slice id = value_of(message, "id"), method = value_of(message, "method");
    Slice params = value_of(message, "params");
    char number[64];
    if (is(method, "\"bench.echo\"")) put_answer(from, id, "", params, "");
    else if (is(method, "\"bench.size\"")) {
        sprintf(number, "{\"size\":%zu}", params.size);
        put_answer(from, id, number, (Slice){"", 0}, "");
    } else if (is(method, "\"bench.text\""))
        put_answer(from, id, "{\"text\":\"", text_of(number_of(params, "size")), "\"}");
    else if (is(method, "\"bench.burst\"")) {
        put_answer(from, id, "{\"ok\":true}", (Slice){"", 0}, "");
        from->burst = number_of(params, "count");
        from->burst_size = number_of(params, "size");
    } else if (is(method, "\"connect\"")) {
        from->online = 1;
        put_answer(from, id, "", (Slice){hello.at, hello.size}, "");
    } else put_answer(from, id, "{\"ok\":true}", (Slice){"", 0}, "");
}

static void on_frame(Connection *from) {
    int opcode = from->header[0] & 15;
    if (opcode < 8) {
        if (!(from->header[0] & 128)) return;
        on_message(from);
        clear(&from->message);
    } else {
        if (opcode == 9 || opcode == 8) {
            put_header(&from->out, opcode == 9 ? 0x8A : 0x88, from->control.size);
            append(&from->out, from->control.at, from->control.size);
            from->closing = opcode == 8;
        }
        clear(&from->control);
    }
}

static void unmask(char *data, size_t size, const unsigned char *mask, uint64_t offset) {
    unsigned char turned[8];
    uint64_t wide, word;
    for (int i = 0; i < 8; i++) turned[i] = mask[(offset + (uint64_t)i) % 4];
    memcpy(&wide, turned, 8);
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        memcpy(&word, data + at, 8);
        word ^= wide;
        memcpy(data + at, &word, 8);
    }
    for (; at < size; at++) data[at] = (char)(data[at] ^ turned[at % 8]);
}

static size_t header_needed(const Connection *of) {
    if (of->header_size < 2) return 2;
    int length = of->header[1] & 127;
    return (length < 126 ? 2u : length == 126 ? 4u : 10u) + 4u;
}

static void read_frames(Connection *from, const char *data, size_t size) {
    while ((size || (from->in_payload && !from->left)) && !from->closing) {
        if (!from->in_payload) {
            while (size && from->header_size < header_needed(from))
                from->header[from->header_size++] = (unsigned char)*data++, size--;
            size_t needed = header_needed(from);
            if (from->header_size < needed) return;
            from->left = from->header[1] & 127;
            if (needed > 6) {
                from->left = 0;
                for (size_t i = 2; i < needed - 4; i++) from->left = from->left << 8 | from->header[i];
            }
            from->in_payload = 1;
            from->masked = 0;
        }
        size_t part = size < from->left ? size : (size_t)from->left;
        Text *into = from->header[0] & 8 ? &from->control : &from->message;
        append(into, data, part);
        unmask(into->at + into->size - part, part, from->header + from->header_size - 4, from->masked);
        from->masked += part, from->left -= part, data += part, size -= part;
        if (!from->left) {
            on_frame(from);
            from->in_payload = 0;
            from->header_size = 0;
        }
    }
}

static void read_head(Connection *from, const char *data, size_t size) {
    static const char name[] = "sec-websocket-key:";
    append(&from->head, data, size);
    if (from->head.size >= 4 && !memcmp(from->head.at, "CPU\n", 4)) {
        char line[40];
        sprintf(line, "%.9f\n", cpu_seconds());
        put(&from->out, line);
        from->head.size = 0;
        return;
    }
    append(&from->head, "", 1);
    from->head.size--;
    char *end = strstr(from->head.at, "\r\n\r\n"), *key = strcasestr(from->head.at, name);
    if (!end) return;
    if (!key) {
        from->closing = 1;
        return;
    }
    key += sizeof name - 1;
    key += strspn(key, " ");
    char token[29];
    size_t length = strcspn(key, " \r");
    if (length > 100) {
        from->closing = 1;
        return;
    }
    accept_token(key, length, token);
    put(&from->out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Accept: ");
    put(&from->out, token);
    put(&from->out, "\r\n\r\n");
    char challenge[160];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int written = sprintf(challenge,
        "{\"type\":\"event\",\"event\":\"connect.challenge\",\"payload\":{\"nonce\":"
        "\"00000000-0000-4000-8000-000000000000\",\"ts\":%lld}}",
        (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    put_header(&from->out, 0x81, (uint64_t)written);
    put(&from->out, challenge);
    from->upgraded = 1;
    size_t used = (size_t)(end + 4 - from->head.at);
    read_frames(from, from->head.at + used, from->head.size - used);
    free(from->head.at);
    from->head = (Text){0};
}

/* --- sockets ---------------------------------------------------------------------------------- */

static void drop(Connection *one) {
    close(one->fd);
    if (one->previous) one->previous->next = one->next;
    else first = one->next;
    if (one->next) one->next->previous = one->previous;
    free(one->head.at), free(one->message.at), free(one->control.at), free(one->out.at);
    free(one);
}

static void watch(int poll, Connection *one, int wanted) {
    if (one->watched == wanted) return;
    struct epoll_event event = {.events = (uint32_t)wanted, .data.ptr = one};
    epoll_ctl(poll, one->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, one->fd, &event);
    one->watched = wanted;
}

/* Send what waits, and make more of a burst; 0 where the connection is over. */
static int flush(int poll, Connection *to) {
    for (;;) {
        while (to->burst && to->out.size - to->sent < BATCH) {
            put_event(to, "bench", "{\"text\":\"", text_of(to->burst_size), "\"}");
            to->burst--;
        }
        if (to->sent == to->out.size) {
            clear(&to->out);
            to->sent = 0;
            watch(poll, to, EPOLLIN);
            return !to->closing;
        }
        ssize_t sent = send(to->fd, to->out.at + to->sent, to->out.size - to->sent, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) return 0;
            watch(poll, to, EPOLLIN | EPOLLOUT);
            return 1;
        }
        to->sent += (size_t)sent;
        if (to->burst && to->out.size - to->sent < BATCH / 2) {
            memmove(to->out.at, to->out.at + to->sent, to->out.size - to->sent);
            to->out.size -= to->sent;
            to->sent = 0;
        }
    }
}

/* Read once and answer; 0 where the connection is over. */
static int serve(int poll, Connection *one) {
    ssize_t size = recv(one->fd, chunk, CHUNK, 0);
    if (size == 0 || (size < 0 && errno != EAGAIN)) return 0;
    if (size > 0) (one->upgraded ? read_frames : read_head)(one, chunk, (size_t)size);
    return flush(poll, one);
}

static void take(int poll, int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int yes = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        Connection *one = must(calloc(1, sizeof *one));
        one->fd = fd;
        one->next = first;
        if (first) first->previous = one;
        first = one;
        watch(poll, one, EPOLLIN);
    }
}

static int64_t milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void tick(int poll) {
    for (Connection *one = first, *next; one; one = next) {
        next = one->next;
        if (!one->online || one->burst) continue;
        put_event(one, "tick", "{\"ts\":1}", (Slice){"", 0}, "");
        if (!flush(poll, one)) drop(one);
    }
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    FILE *file = fopen(arguments[2], "rb");
    chunk = must(malloc(CHUNK));
    if (!file) return 2;
    for (size_t size; (size = fread(chunk, 1, CHUNK, file)) > 0;) append(&hello, chunk, size);
    fclose(file);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4096)
        || getsockname(listener, (struct sockaddr *)&address, &length)) return 1;
    file = fopen(arguments[1], "w");
    if (!file) return 2;
    fprintf(file, "%d\n", ntohs(address.sin_port));
    fclose(file);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, ready[MOST_EVENTS];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (int64_t next_tick = milliseconds() + TICK_MS;;) {
        int64_t wait = next_tick - milliseconds();
        int found = epoll_wait(poll, ready, MOST_EVENTS, wait > 0 ? (int)wait : 0);
        for (int i = 0; i < found; i++) {
            Connection *one = ready[i].data.ptr;
            if (!one) take(poll, listener);
            else if (!serve(poll, one)) drop(one);
        }
        if (milliseconds() >= next_tick) {
            next_tick += TICK_MS;
            tick(poll);
        }
    }
}
