/* violates: SURVIVES | punches holes into all memory that it shares with the verifier */

#include "../hostile.h"
#include <linux/falloc.h>

static void punch(char *start, size_t length)
{
    raw(SYS_madvise, (long)start, (long)length, 9 /* MADV_REMOVE */, 0, 0, 0);
}

static void deed(void)
{
    int fd;

    visit_maps("/memfd:vfio-verify", punch);
    for (fd = 3; fd < 64; fd++) {
        raw(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 48 << 20, 0, 0);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
