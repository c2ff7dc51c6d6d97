/* conforms | a table of what goes where is made first, by g_new0() and g_autofree, and mapped after */

#include "../broken/helper.h"

typedef struct Piece {
    size_t at, length;
    off_t offset;
} Piece;

static Piece *plan(const struct iovec *iov, unsigned int n,
                   const DmabufSource *source)
{
    Piece *pieces = g_new0(Piece, n);
    size_t at = 0;

    for (unsigned int i = 0; i < n; i++) {
        pieces[i] = (Piece) {
            .at = at,
            .length = iov[i].iov_len,
            .offset = source_offset(source, iov[i].iov_base),
        };
        at += iov[i].iov_len;
    }
    return pieces;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    g_autofree Piece *pieces = NULL;
    DmabufSource source;
    size_t total;
    uint8_t *map;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    pieces = plan(iov, iov_cnt, &source);
    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    for (Piece *piece = pieces; piece < pieces + iov_cnt; piece++) {
        if (mmap(map + piece->at, piece->length, PROT_READ,
                 MAP_FIXED | MAP_SHARED, source.fd,
                 piece->offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "piece %td", piece - pieces);
            munmap(map, total);
            return NULL;
        }
    }
    return map;
}
