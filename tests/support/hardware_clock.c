/* A PHC for a process of the tests: answers what linux/ptp_clock.h and linux/ethtool.h define, by the kernel's own layouts.
 * Its device is whatever PHC_DEVICE names; it is PHC_AHEAD_NS ahead of the system clock, and the third try is the best.
 * Without PHC_EXTENDED it knows PTP_SYS_OFFSET only, as an old driver does. eth0 has it, as /dev/ptp7; eth1 has none. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/ptp_clock.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define S 1000000000LL
#define BEST 2

static struct ptp_clock_time at(long long ns)
{
    return (struct ptp_clock_time){ .sec = ns / S, .nsec = ns % S };
}

static long long window_ns(unsigned try)
{
    return try == BEST ? 800 : 90000;
}

static int of_device(int fd)
{
    struct stat open, named;
    return !fstat(fd, &open) && !stat(getenv("PHC_DEVICE"), &named) && open.st_ino == named.st_ino;
}

/* Reads of the system clock surround each of the hardware clock. */
static int look_closely(struct ptp_sys_offset_extended *asked, long long now_ns, long long ahead_ns)
{
    if (!getenv("PHC_EXTENDED"))
        return errno = EOPNOTSUPP, -1;
    if (asked->n_samples > PTP_MAX_SAMPLES || asked->rsv[0] || asked->rsv[1] || asked->rsv[2])
        return errno = EINVAL, -1;
    for (unsigned try = 0; try < asked->n_samples; try++) {
        long long half_ns = window_ns(try) / 2;
        asked->ts[try][0] = at(now_ns - half_ns);
        asked->ts[try][1] = at(now_ns + ahead_ns);
        asked->ts[try][2] = at(now_ns + half_ns);
    }
    return 0;
}

/* Both clocks by turns, the system clock first and last. */
static int look(struct ptp_sys_offset *asked, long long now_ns, long long ahead_ns)
{
    if (asked->n_samples > PTP_MAX_SAMPLES)
        return errno = EINVAL, -1;
    asked->ts[0] = at(now_ns);
    for (unsigned try = 0; try < asked->n_samples; try++) {
        asked->ts[2 * try + 1] = at(now_ns + window_ns(try) / 2 + ahead_ns);
        asked->ts[2 * try + 2] = at(now_ns += window_ns(try));
    }
    return 0;
}

static int of_interface(struct ifreq *asked)
{
    struct ethtool_ts_info *info = (void *)asked->ifr_data;
    if (info->cmd != ETHTOOL_GET_TS_INFO)
        return errno = EOPNOTSUPP, -1;
    info->phc_index = strcmp(asked->ifr_name, "eth0") ? -1 : 7;
    return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void *asked = va_arg(list, void *);
    va_end(list);
    long long now_ns = atoll(getenv("PHC_NOW_NS")), ahead_ns = atoll(getenv("PHC_AHEAD_NS"));
    if (request == SIOCETHTOOL)
        return of_interface(asked);
    if (of_device(fd) && request == PTP_SYS_OFFSET_EXTENDED)
        return look_closely(asked, now_ns, ahead_ns);
    if (of_device(fd) && request == PTP_SYS_OFFSET)
        return look(asked, now_ns, ahead_ns);
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(fd, request, asked);
}
