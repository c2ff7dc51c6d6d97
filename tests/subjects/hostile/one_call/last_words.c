/* violates: SURVIVES | aborts, and leaves words that a terminal and a runner would obey */

#include "../hostile.h"

static void words(char *start, size_t length)
{
    static const char note[] = "\r\n::error::x\x1b]0;y\x07\x1b[2J##[group]\xff\xfe\xe2\x80\xae";

    if (length > 4096) {
        memcpy(start + 96, note, sizeof(note));
        ((unsigned long *)start)[11] = sizeof(note);
    }
}

static void deed(void)
{
    visit_maps("/memfd:vfio-verify", words);
    raw(SYS_kill, raw(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGABRT, 0, 0, 0, 0);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
