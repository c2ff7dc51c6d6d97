/*
 * Guest memory as QEMU has it: RAMBlock, MemoryRegion, and what finds one from a host address.
 *
 * These objects are the world's, made by it and read by the subject. A source that brings its own
 * struct RAMBlock or struct MemoryRegion cannot use the world's objects, which are laid out as below.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_MEMORY_H
#define VFIO_VERIFY_MEMORY_H

#include "vfio_verify/error.h"
#include "vfio_verify/queue.h"

struct RAMBlock;
struct MemoryRegion;
struct MemoryRegionOps;
struct DeviceState;
struct Object;

/* ---- objects and devices ------------------------------------------------------------------------ */

#ifndef VFIO_VERIFY_SOURCE_DEFINES_Object
typedef struct Object {
    const char *type;               /* name of its class */
    struct Object *parent;
    uint32_t ref;
} Object;
#endif

#if !defined(VFIO_VERIFY_SOURCE_DEFINES_DeviceState) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_Object)
typedef struct DeviceState {
    Object parent_obj;
    char *id;
    char *canonical_path;
    bool realized;
    bool hotplugged;
} DeviceState;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_DeviceState
typedef struct DeviceState DeviceState;
#endif

#if !defined(VFIO_VERIFY_SOURCE_DEFINES_PCIDevice) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_DeviceState) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_Object)
typedef struct PCIDevice {
    DeviceState qdev;
    int32_t devfn;
    char name[64];
} PCIDevice;
#endif

/* NULL when the object is not of that class or of one derived from it. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_object_dynamic_cast
struct Object *object_dynamic_cast(struct Object *object, const char *type);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_object_get_typename
const char *object_get_typename(const struct Object *object);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_object_ref
void *object_ref(void *object);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_object_unref
void object_unref(void *object);
#endif

/* Ends the process when the object is of another class, as QEMU's checked casts do. */
void *vfio_verify_cast(const void *object, const char *type, const char *file, int line, const char *function);
#define VFIO_VERIFY_CAST(to, object, type) \
    ((to *)vfio_verify_cast((object), (type), __FILE__, __LINE__, __func__))

#ifndef VFIO_VERIFY_SOURCE_DEFINES_OBJECT
#define OBJECT(object) ((struct Object *)(void *)(object))
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_OBJECT_CHECK
#define OBJECT_CHECK(to, object, type) VFIO_VERIFY_CAST(to, object, type)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_TYPE_DEVICE
#define TYPE_DEVICE "device"
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_DEVICE
#define DEVICE(object) VFIO_VERIFY_CAST(struct DeviceState, object, "device")
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_TYPE_PCI_DEVICE
#define TYPE_PCI_DEVICE "pci-device"
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_PCI_DEVICE
#define PCI_DEVICE(object) VFIO_VERIFY_CAST(struct PCIDevice, object, "pci-device")
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_TYPE_MEMORY_REGION
#define TYPE_MEMORY_REGION "memory-region"
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_MEMORY_REGION
#define MEMORY_REGION(object) VFIO_VERIFY_CAST(struct MemoryRegion, object, "memory-region")
#endif

/* ---- addresses ------------------------------------------------------------------------------------ */

/* An address among all the guest's RAM blocks, or an offset in one of them. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_ram_addr_t
typedef uintptr_t ram_addr_t;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_RAM_ADDR_FMT
#define RAM_ADDR_FMT "%" PRIxPTR
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_RAM_ADDR_MAX
#define RAM_ADDR_MAX UINTPTR_MAX
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_RAM_ADDR_INVALID
#define RAM_ADDR_INVALID (~(uintptr_t)0)
#endif

/* A guest physical address. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_hwaddr
typedef uint64_t hwaddr;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_HWADDR_PRIx
#define HWADDR_PRIx PRIx64
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_HWADDR_PRIX
#define HWADDR_PRIX PRIX64
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_HWADDR_PRIu
#define HWADDR_PRIu PRIu64
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_HWADDR_PRId
#define HWADDR_PRId PRId64
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_HWADDR_FMT_plx
#define HWADDR_FMT_plx "%016" PRIx64
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_HWADDR_BITS
#define HWADDR_BITS 64
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_HWADDR_MAX
#define HWADDR_MAX UINT64_MAX
#endif

/* ---- RAMBlock --------------------------------------------------------------------------------------- */

#ifndef VFIO_VERIFY_SOURCE_DEFINES_RAM_PREALLOC
#define RAM_PREALLOC (1 << 0)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_RAM_SHARED
#define RAM_SHARED (1 << 1)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_RAMBlock
typedef struct RAMBlock {
    struct MemoryRegion *mr;
    uint8_t *host;                  /* where the host has it mapped */
    uintptr_t offset;               /* among all RAM blocks: a ram_addr_t */
    uintptr_t used_length;          /* bytes */
    uintptr_t max_length;           /* bytes */
    uint32_t flags;
    char idstr[256];
    struct {                        /* QLIST_ENTRY(RAMBlock) */
        struct RAMBlock *le_next;
        struct RAMBlock **le_prev;
    } next;
    int fd;                         /* -1 for memory that was mapped elsewhere, as a device's is */
    uint64_t fd_offset;
    size_t page_size;
} RAMBlock;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_RAMList
typedef struct RAMList {
    struct RAMBlock *mru_block;
    struct {                        /* QLIST_HEAD(, RAMBlock) */
        struct RAMBlock *lh_first;
    } blocks;
    uint32_t version;
} RAMList;
#endif

#if !defined(VFIO_VERIFY_SOURCE_DEFINES_ram_list) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_RAMList)
extern RAMList ram_list;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_RAMBLOCK_FOREACH
#define RAMBLOCK_FOREACH(block) \
    for ((block) = ram_list.blocks.lh_first; (block) != NULL; (block) = (block)->next.le_next)
#endif

/* The block with host <= pointer < host + max_length, and the offset in it; NULL if there is none. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_block_from_host
struct RAMBlock *qemu_ram_block_from_host(void *pointer, bool round_offset, uintptr_t *offset);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_block_host_offset
uintptr_t qemu_ram_block_host_offset(struct RAMBlock *block, void *host);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_block_by_name
struct RAMBlock *qemu_ram_block_by_name(const char *name);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_addr_from_host
uintptr_t qemu_ram_addr_from_host(void *pointer);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_get_host_addr
void *qemu_ram_get_host_addr(struct RAMBlock *block);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_get_offset
uintptr_t qemu_ram_get_offset(struct RAMBlock *block);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_get_fd_offset
uintptr_t qemu_ram_get_fd_offset(struct RAMBlock *block);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_get_used_length
uintptr_t qemu_ram_get_used_length(struct RAMBlock *block);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_get_max_length
uintptr_t qemu_ram_get_max_length(struct RAMBlock *block);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_get_idstr
const char *qemu_ram_get_idstr(struct RAMBlock *block);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_get_fd
int qemu_ram_get_fd(struct RAMBlock *block);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_pagesize
size_t qemu_ram_pagesize(struct RAMBlock *block);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_is_shared
bool qemu_ram_is_shared(struct RAMBlock *block);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_map_ram_ptr
void *qemu_map_ram_ptr(struct RAMBlock *block, uintptr_t offset);
#endif

/* ---- mapping RAM: a PROT_NONE reservation, the memory over it, one guard page behind ----------- */

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_MAP_READONLY
#define QEMU_MAP_READONLY (1 << 0)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_MAP_SHARED
#define QEMU_MAP_SHARED (1 << 1)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_MAP_SYNC
#define QEMU_MAP_SYNC (1 << 2)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_QEMU_MAP_NORESERVE
#define QEMU_MAP_NORESERVE (1 << 3)
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_mmap
void *qemu_ram_mmap(int fd, size_t size, size_t align, uint32_t flags, off_t offset);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_qemu_ram_munmap
void qemu_ram_munmap(int fd, void *pointer, size_t size);
#endif

/* ---- MemoryRegion ----------------------------------------------------------------------------------- */

#ifndef VFIO_VERIFY_SOURCE_DEFINES_MemoryRegionOps
typedef struct MemoryRegionOps {
    uint64_t (*read)(void *opaque, uint64_t addr, unsigned int size);
    void (*write)(void *opaque, uint64_t addr, uint64_t data, unsigned int size);
    int endianness;
} MemoryRegionOps;
#endif

#if !defined(VFIO_VERIFY_SOURCE_DEFINES_MemoryRegion) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_Object) && \
    !defined(VFIO_VERIFY_SOURCE_DEFINES_Int128)
typedef struct MemoryRegion {
    Object parent_obj;
    bool romd_mode;
    bool ram;
    bool subpage;
    bool readonly;
    bool nonvolatile;
    bool rom_device;
    bool is_iommu;
    bool ram_device;                /* memory of a device, mapped into the guest */
    bool enabled;
    bool terminates;
    struct RAMBlock *ram_block;     /* NULL for what is no RAM */
    struct Object *owner;
    struct DeviceState *dev;        /* the owner as a device, NULL if it is none */
    const struct MemoryRegionOps *ops;
    void *opaque;                   /* for ops: the VFIORegion where ops is &vfio_region_ops */
    struct MemoryRegion *container; /* NULL for the root */
    int mapped_via_alias;
    Int128 size;                    /* bytes */
    uint64_t addr;                  /* bytes from the start of the container */
    uint64_t align;
    struct MemoryRegion *alias;
    uint64_t alias_offset;
    int32_t priority;
    struct {                        /* QTAILQ_HEAD(, MemoryRegion) */
        struct MemoryRegion *tqh_first;
        struct MemoryRegion **tqh_last;
    } subregions;
    struct {                        /* QTAILQ_ENTRY(MemoryRegion) */
        struct MemoryRegion *tqe_next;
        struct MemoryRegion **tqe_prev;
    } subregions_link;
    const char *name;
} MemoryRegion;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_MemoryRegion
typedef struct MemoryRegion MemoryRegion;
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_get_system_memory
struct MemoryRegion *get_system_memory(void);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_owner
struct Object *memory_region_owner(struct MemoryRegion *mr);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_name
const char *memory_region_name(const struct MemoryRegion *mr);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_size
uint64_t memory_region_size(struct MemoryRegion *mr);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_is_ram
bool memory_region_is_ram(struct MemoryRegion *mr);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_is_ram_device
bool memory_region_is_ram_device(struct MemoryRegion *mr);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_is_rom
bool memory_region_is_rom(struct MemoryRegion *mr);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_is_romd
bool memory_region_is_romd(struct MemoryRegion *mr);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_is_mapped
bool memory_region_is_mapped(struct MemoryRegion *mr);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_get_ram_ptr
void *memory_region_get_ram_ptr(struct MemoryRegion *mr);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_get_ram_addr
uintptr_t memory_region_get_ram_addr(struct MemoryRegion *mr);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_get_fd
int memory_region_get_fd(struct MemoryRegion *mr);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_from_host
struct MemoryRegion *memory_region_from_host(void *pointer, uintptr_t *offset);
#endif

/* References are counted: a call drops all that it takes, and no other. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_ref
void memory_region_ref(struct MemoryRegion *mr);
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_memory_region_unref
void memory_region_unref(struct MemoryRegion *mr);
#endif

/* ---- RCU: nothing is reclaimed while a subject runs, but each lock must be given back ------------ */

int vfio_verify_rcu_enter(void);
void vfio_verify_rcu_leave(const int *guard);

#ifndef VFIO_VERIFY_SOURCE_DEFINES_rcu_read_lock
#define rcu_read_lock() ((void)vfio_verify_rcu_enter())
#endif

#ifndef VFIO_VERIFY_SOURCE_DEFINES_rcu_read_unlock
#define rcu_read_unlock() vfio_verify_rcu_leave(NULL)
#endif

#define VFIO_VERIFY_RCU_GUARD \
    const int vfio_verify_rcu_guard __attribute__((unused, cleanup(vfio_verify_rcu_leave))) = vfio_verify_rcu_enter()

#ifndef VFIO_VERIFY_SOURCE_DEFINES_RCU_READ_LOCK_GUARD
#define RCU_READ_LOCK_GUARD() VFIO_VERIFY_RCU_GUARD
#endif

/* As in QEMU the block is a loop of one turn: break leaves it, and return unlocks. */
#ifndef VFIO_VERIFY_SOURCE_DEFINES_WITH_RCU_READ_LOCK_GUARD
#define WITH_RCU_READ_LOCK_GUARD()                                                   \
    for (VFIO_VERIFY_RCU_GUARD, *vfio_verify_rcu_once = &vfio_verify_rcu_guard;      \
         vfio_verify_rcu_once; vfio_verify_rcu_once = NULL)
#endif

#endif
