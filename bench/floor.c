/* The floor: a relay of bytes with one thread, one epoll and no knowledge of any protocol.
 *
 * Whatever stands between client and server must at least be woken, read and write; what a
 * proxy costs beyond this is the price of what it knows. Each client gets a server connection
 * of its own at once, as with HAProxy in mode tcp.
 *
 * Never buffers unless a write was short: then it reads from neither side until all has gone.
 *
 *   floor LISTEN_PORT SERVER_PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 128, READ_BYTES = 65536, BACKLOG = 4096 };

/* One side of a relayed connection. */
struct side {
    int fd; /* -1 once closed; freed at the end of the batch, which may name it again */
    struct side *peer;
    char *kept; /* what the last write to this side left over */
    size_t kept_from, kept_to;
    struct side *next_closed;
};

static int poller;
static char bytes[READ_BYTES];
static struct side *closed;

static void stop(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void want(struct side *side, int operation, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = side};
    if (side->fd >= 0 && epoll_ctl(poller, operation, side->fd, &event) < 0) stop("epoll_ctl");
}

static struct side *new_side(int fd) {
    int yes = 1;
    struct side *side = calloc(1, sizeof *side);
    if (!side || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0) stop("a new side");
    side->fd = fd;
    return side;
}

static void close_both(struct side *side) {
    struct side *both[] = {side, side->peer};
    for (int i = 0; i < 2; i++) {
        if (both[i]->fd < 0) continue;
        close(both[i]->fd);
        both[i]->fd = -1;
        both[i]->next_closed = closed;
        closed = both[i];
    }
}

static void free_closed(void) {
    while (closed) {
        struct side *next = closed->next_closed;
        free(closed->kept);
        free(closed);
        closed = next;
    }
}

static void take_client(int listener, int server_port) {
    int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (client < 0) return;
    struct sockaddr_in address = loopback(server_port);
    int server = socket(AF_INET, SOCK_STREAM, 0);
    /* Blocks: on loopback it is answered by the kernel. */
    if (server < 0 || connect(server, (struct sockaddr *)&address, sizeof address) < 0) stop("connect");
    struct side *a = new_side(client), *b = new_side(server);
    a->peer = b;
    b->peer = a;
    want(a, EPOLL_CTL_ADD, EPOLLIN);
    want(b, EPOLL_CTL_ADD, EPOLLIN);
}

static void keep(struct side *to, size_t from, size_t count) {
    if (!to->kept && !(to->kept = malloc(READ_BYTES))) stop("malloc");
    memcpy(to->kept, bytes + from, count);
    to->kept_from = 0;
    to->kept_to = count;
    want(to, EPOLL_CTL_MOD, EPOLLOUT);
    want(to->peer, EPOLL_CTL_MOD, 0);
}

static void relay(struct side *from) {
    if (from->peer->kept_from < from->peer->kept_to) return close_both(from); /* woken without asking: hung up */
    ssize_t got = recv(from->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return close_both(from);
    ssize_t sent = send(from->peer->fd, bytes, got, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) return close_both(from);
    if (sent < got) keep(from->peer, sent < 0 ? 0 : sent, sent < 0 ? got : got - sent);
}

static void send_kept(struct side *to) {
    ssize_t sent = send(to->fd, to->kept + to->kept_from, to->kept_to - to->kept_from, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) return close_both(to);
    if (sent > 0) to->kept_from += sent;
    if (to->kept_from < to->kept_to) return;
    want(to, EPOLL_CTL_MOD, EPOLLIN);
    want(to->peer, EPOLL_CTL_MOD, EPOLLIN);
}

int main(int count, char **arguments) {
    if (count != 3) return fprintf(stderr, "usage: floor LISTEN_PORT SERVER_PORT\n"), 2;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    struct sockaddr_in address = loopback(atoi(arguments[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) stop("bind");
    if (listen(listener, BACKLOG) < 0 || (poller = epoll_create1(0)) < 0) stop("listen");
    struct epoll_event event = {.events = EPOLLIN}, events[EVENTS_MAX];
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0) stop("epoll_ctl");
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS_MAX, -1);
        if (ready < 0 && errno != EINTR) stop("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct side *side = events[i].data.ptr;
            if (!side) take_client(listener, atoi(arguments[2]));
            else if (side->fd < 0) continue;
            else if (events[i].events & EPOLLOUT) send_kept(side);
            else relay(side);
        }
        free_closed();
    }
}
