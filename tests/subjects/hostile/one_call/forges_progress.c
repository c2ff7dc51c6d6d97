/* violates: SURVIVES | claims to have written more than there is, and says so on its socket */

#include "../hostile.h"

static void claim(char *start, size_t length)
{
    if (length > 4096) {
        memset(start + 8, 0x7f, 4088);
    }
}

static void deed(void)
{
    static const long notices[][2] = {{1l << 62, 1l << 62}, {-3, -1}, {4, 4}, {1, 1}, {-1, 0x7fffffff}};
    unsigned int i;
    int fd;

    visit_maps("/memfd:vfio-verify", claim);
    for (fd = 3; fd < 64; fd++) {
        for (i = 0; i < 5; i++) {
            raw(SYS_sendto, fd, (long)notices[i], sizeof(notices[i]), MSG_DONTWAIT, 0, 0);
        }
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
