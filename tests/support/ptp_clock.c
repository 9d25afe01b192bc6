/* For ptp4l in tests: its servo adjusts nothing, and its clock is PTP_SHIFT_NS ahead of the machine's. */
#define _GNU_SOURCE
#include <time.h>
#include <dlfcn.h>
#include <linux/errqueue.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timex.h>

#define S 1000000000LL

/* Reading is allowed; setting succeeds, and changes nothing. */
int clock_adjtime(clockid_t id, struct timex *timex)
{
    int (*real)(clockid_t, struct timex *) = dlsym(RTLD_NEXT, "clock_adjtime");
    if (timex->modes)
        return 0;
    return real(id, timex);
}

int clock_settime(clockid_t id, const struct timespec *to)
{
    return 0;
}

/* The kernel's timestamp of a packet that came or went. */
ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t (*real)(int, struct msghdr *, int) = dlsym(RTLD_NEXT, "recvmsg");
    ssize_t size = real(fd, message, flags);
    const char *shift = getenv("PTP_SHIFT_NS");
    if (size < 0 || !shift)
        return size;
    for (struct cmsghdr *each = CMSG_FIRSTHDR(message); each; each = CMSG_NXTHDR(message, each)) {
        struct scm_timestamping stamp;
        if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SO_TIMESTAMPING)
            continue;
        memcpy(&stamp, CMSG_DATA(each), sizeof stamp);
        long long ns = stamp.ts[0].tv_sec * S + stamp.ts[0].tv_nsec + atoll(shift);
        stamp.ts[0].tv_sec = ns / S;
        stamp.ts[0].tv_nsec = ns % S;
        memcpy(CMSG_DATA(each), &stamp, sizeof stamp);
    }
    return size;
}
