/* conforms | looks in /proc for what the kernel tells of the machine and of its users; it finds its own mappings alone */

#include "../hostile.h"

static void deed(void)
{
    static const char *const names[] = {
        "net/dev", "net/tcp", "net/unix", "net/route", "mounts", "mountinfo", "cgroup", "environ", "cmdline", "status",
        "mem", "stat", "statm", "smaps", "fdinfo", "cpuset", "limits", "sched", "comm", "attr/current",
    };
    static const char *const others[] = {
        "/proc", "/proc/meminfo", "/proc/self/task", "/proc/self/fd", "/proc/1/maps", "/proc/keys",
        "/proc/sys/kernel/hostname", "/sys", "/dev", "/dev/shm", "/dev/mem", "/dev/tty", "/etc/passwd", "/etc/hostname",
        "/tmp", "/run", "/home", "/root", "/var",
    };
    static const char *const where[] = {"/proc/self", "/proc/thread-self", "/proc/self/task/%d", "/proc/%d"};
    char format[64], path[96];
    unsigned int i, j, found = 0;

    for (i = 0; i < sizeof(where) / sizeof(where[0]); i++) {
        for (j = 0; j < sizeof(names) / sizeof(names[0]); j++) {
            snprintf(format, sizeof(format), "%s/%s", where[i], names[j]);
            snprintf(path, sizeof(path), format, (int)raw(SYS_gettid, 0, 0, 0, 0, 0, 0));
            found += raw(SYS_openat, AT_FDCWD, (long)path, O_RDONLY, 0, 0, 0) >= 0;
        }
    }
    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        found += raw(SYS_openat, AT_FDCWD, (long)others[i], O_RDONLY, 0, 0, 0) >= 0;
    }
    if (found) {
        *(volatile int *)NULL = 1;
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
