/* A network with a delay: joins two tun devices, one in each of two network namespaces, and passes every packet on
 * after a fixed time. For kernels without netem. Ends when it is killed; prints "up" when the devices are.
 *
 * usage: tun_delay NAMESPACE_A ADDRESS_A NAMESPACE_B ADDRESS_B MICROSECONDS */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { QUEUE = 4096, PACKET_BYTES = 9216, MTU = 9000 };

typedef struct packet {
    int64_t due_us;
    ssize_t length;
    char    bytes[PACKET_BYTES];
} packet;

/* What came from one end and has not reached the other. */
typedef struct direction {
    packet *packets; /* [QUEUE] a ring */
    size_t  head, tail;
} direction;

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int open_device(const char *space, const char *address)
{
    char text[256];
    snprintf(text, sizeof text, "/run/netns/%s", space);
    const int file = open(text, O_RDONLY);
    if (file < 0 || setns(file, CLONE_NEWNET) != 0) fail(text);
    close(file);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strcpy(request.ifr_name, "tun0");
    const int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (device < 0 || ioctl(device, TUNSETIFF, &request) != 0) fail("/dev/net/tun");
    snprintf(text, sizeof text, "ip addr add %s dev tun0 && ip link set tun0 mtu %d txqueuelen 5000 up", address, MTU);
    if (system(text) != 0) fail("ip");
    return device;
}

static void take(direction *d, int from, int64_t delay_us)
{
    while (d->head - d->tail < QUEUE) {
        packet *p = &d->packets[d->head % QUEUE];
        p->length = read(from, p->bytes, sizeof p->bytes);
        if (p->length <= 0) return;
        p->due_us = now_us() + delay_us;
        d->head++;
    }
}

static void give(direction *d, int to)
{
    for (const int64_t now = now_us(); d->head != d->tail && d->packets[d->tail % QUEUE].due_us <= now; d->tail++) {
        const packet *p = &d->packets[d->tail % QUEUE];
        if (write(to, p->bytes, (size_t)p->length) < 0) perror("write");
    }
}

/* Until the next packet is due; without one for a second. */
static int64_t wait_us(const direction *directions)
{
    int64_t least = 1000000;
    for (int i = 0; i < 2; i++) {
        const direction *d = &directions[i];
        if (d->head == d->tail) continue;
        const int64_t left = d->packets[d->tail % QUEUE].due_us - now_us();
        least              = left < least ? left : least;
    }
    return least > 0 ? least : 0;
}

int main(int argc, char **argv)
{
    if (argc != 6) return fputs("usage: tun_delay NAMESPACE ADDRESS NAMESPACE ADDRESS MICROSECONDS\n", stderr), 2;
    const int64_t delay_us   = atol(argv[5]);
    const int     devices[2] = {open_device(argv[1], argv[2]), open_device(argv[3], argv[4])};
    direction directions[]   = {{.packets = calloc(QUEUE, sizeof(packet))}, {.packets = calloc(QUEUE, sizeof(packet))}};
    if (directions[0].packets == NULL || directions[1].packets == NULL) fail("memory");
    prctl(PR_SET_TIMERSLACK, 1);
    puts("up");
    fflush(stdout);
    for (;;) {
        struct pollfd         ready[2] = {{devices[0], POLLIN, 0}, {devices[1], POLLIN, 0}};
        const int64_t         wait     = wait_us(directions);
        const struct timespec time     = {wait / 1000000, wait % 1000000 * 1000};
        ppoll(ready, 2, &time, NULL);
        for (int i = 0; i < 2; i++) take(&directions[i], devices[i], delay_us);
        for (int i = 0; i < 2; i++) give(&directions[i], devices[1 - i]);
    }
}
