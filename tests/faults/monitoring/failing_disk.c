/* Lets a disk refuse to sync, or never answer, while the file exists that FAILING_DISK names, as it says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static char failure(void)
{
    char said = 0;
    int file = open(getenv("FAILING_DISK"), O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        if (read(file, &said, 1) < 0)
            said = 0;
        close(file);
    }
    return said;
}

int fdatasync(int file)
{
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    while (failure() == 'h')
        usleep(100000);
    if (failure() == 'r') {
        errno = EIO;
        return -1;
    }
    return real(file);
}
