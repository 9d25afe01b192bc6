/* Moves the wall clock of one process, while it runs: the file WALL_CLOCK holds nanoseconds, parts per billion, the boot
 * time since when the clock gains so much, and for how many nanoseconds the machine was suspended: so much boot time and
 * wall clock are ahead, with the timers on boot time. WALL_CLOCK_AHEAD_NS is added to the wall clock. The kernel's times
 * of packets move along. The process cannot move the machine's clock: it believes that it has. libfaketime would move
 * those timers with the wall clock. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

static int (*real)(clockid_t, struct timespec *);

enum { TIMERS = 1024 };
static int (*set_timer)(int, int, const struct itimerspec *, struct itimerspec *);
static struct itimerspec armed[TIMERS]; /* Those on boot time, as they were armed. */
static int is_on_boot_time[TIMERS], how_armed[TIMERS];
static long long suspended; /* As of the last look. */

static void move(struct timespec *at, long long ns)
{
    ns += at->tv_nsec;
    at->tv_sec += ns / 1000000000;
    at->tv_nsec = ns % 1000000000;
    if (at->tv_nsec < 0) {
        at->tv_nsec += 1000000000;
        at->tv_sec--;
    }
}

static int arm(int fd)
{
    struct itimerspec wanted = armed[fd];
    if (!set_timer)
        set_timer = REAL(timerfd_settime);
    if (wanted.it_value.tv_sec || wanted.it_value.tv_nsec) {
        if (how_armed[fd] & TFD_TIMER_ABSTIME)
            move(&wanted.it_value, -suspended);
        if (wanted.it_value.tv_sec < 0)
            wanted.it_value = (struct timespec){0, 1};
    }
    return set_timer(fd, how_armed[fd], &wanted, NULL);
}

/* How far the wall clock is ahead, besides what was suspended; what was due while it was, is due now. */
static long long shift_ns(void)
{
    char text[128] = "";
    long long shift = 0, gain_ppb = 0, since = 0, now_suspended = 0;
    struct timespec boot;
    const char *name = getenv("WALL_CLOCK"), *ahead = getenv("WALL_CLOCK_AHEAD_NS");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) < 0)
            text[0] = 0;
        close(file);
    }
    sscanf(text, "%lld %lld %lld %lld", &shift, &gain_ppb, &since, &now_suspended);
    if (__atomic_exchange_n(&suspended, now_suspended, __ATOMIC_SEQ_CST) != now_suspended)
        for (int fd = 0; fd < TIMERS; fd++)
            if (is_on_boot_time[fd])
                arm(fd);
    if (gain_ppb) {
        if (!real)
            real = REAL(clock_gettime);
        real(CLOCK_BOOTTIME, &boot);
        shift += (long long)((boot.tv_sec * 1000000000LL + boot.tv_nsec - since) * (double)gain_ppb / 1e9);
    }
    return shift + (ahead ? atoll(ahead) : 0);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!real)
        real = REAL(clock_gettime);
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_BOOTTIME)) {
        long long ahead = shift_ns();
        move(now, clock == CLOCK_REALTIME ? ahead + suspended : suspended);
    }
    return result;
}

int timerfd_create(int clock, int flags)
{
    int fd = REAL(timerfd_create)(clock, flags);
    if (fd >= 0 && fd < TIMERS) {
        is_on_boot_time[fd] = clock == CLOCK_BOOTTIME;
        armed[fd] = (struct itimerspec){0};
    }
    return fd;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *wanted, struct itimerspec *old)
{
    if (!set_timer)
        set_timer = REAL(timerfd_settime);
    if (fd < 0 || fd >= TIMERS || !is_on_boot_time[fd])
        return set_timer(fd, flags, wanted, old);
    armed[fd] = *wanted;
    how_armed[fd] = flags;
    return arm(fd);
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return result;
}

time_t time(time_t *now)
{
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now)
        *now = precise.tv_sec;
    return precise.tv_sec;
}

/* Reading is allowed; setting succeeds, and changes nothing. */
int clock_adjtime(clockid_t clock, struct timex *timex)
{
    return timex->modes ? 0 : REAL(clock_adjtime)(clock, timex);
}

int clock_settime(clockid_t clock, const struct timespec *to)
{
    (void)clock, (void)to;
    return 0;
}

/* The kernel's times of a packet that came or went. */
static void move_stamps(struct msghdr *message)
{
    long long ns = shift_ns() + suspended;
    for (struct cmsghdr *each = CMSG_FIRSTHDR(message); each; each = CMSG_NXTHDR(message, each)) {
        struct scm_timestamping stamps;
        size_t size = each->cmsg_type == SCM_TIMESTAMPING ? sizeof stamps : sizeof stamps.ts[0];
        if (each->cmsg_level != SOL_SOCKET || (each->cmsg_type != SCM_TIMESTAMPING && each->cmsg_type != SCM_TIMESTAMPNS))
            continue;
        memcpy(&stamps, CMSG_DATA(each), size);
        if (stamps.ts[0].tv_sec)
            move((struct timespec *)&stamps.ts[0], ns);
        memcpy(CMSG_DATA(each), &stamps, size);
    }
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t size = REAL(recvmsg)(fd, message, flags);
    if (size >= 0)
        move_stamps(message);
    return size;
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout)
{
    int received = REAL(recvmmsg)(fd, messages, count, flags, timeout);
    for (int at = 0; at < received; at++)
        move_stamps(&messages[at].msg_hdr);
    return received;
}
