/*
 * The native side of the bench `cpu`: what a C programmer would write for the same walks, with the same rules, over the same
 * memory and the same accesses, which it reads from the file that is named on the command line. Entries are 64-bit words, levels are
 * unrolled, results are returned in registers. It prints the CPU time of one pass in nanoseconds and the checksum of all results.
 *
 *   file: 48 ints of registers | frames * 512 words of memory | count accesses of 4 ints: low half, high half, access, use
 *
 * A first reader may skip everything below `main`'s loops. Sources: Intel SDM vol. 3A, "4-Level Paging and 5-Level Paging";
 * vol. 3C, "EPT Translation Mechanism".
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef uint64_t u64;
typedef uint32_t u32;

enum { FRAMES, COUNT, REPEATS, ROOT, EPT_ROOT = 5, RESERVED_HIGH = 7, RESERVED_UPPER, RESERVED_1GB, PERMITTED, DENIED = 19,
       NEEDS = 28, WANTS = 35, REGISTERS = 48 };

#define FRAME 0x000ffffffffff000ull
#define FRAME_BITS(e, within) ((e) & FRAME & ~(u64)(within))
#define NESTED_EXIT ((u64)(int64_t)-64)

static u64 *memory, frames, root, ept_root, reserved, reserved_upper, reserved_1gb;
static u32 permitted[9], denied[9];
static u64 needs[7], wants[7];

/* The entry `index` of the table that `entry` names; beyond memory, all ones. */
static inline u64 entry_of(u64 entry, unsigned index, u64 **at)
{
    u64 frame = (entry & FRAME) >> 12;
    if (__builtin_expect(frame >= frames, 0)) {
        *at = NULL;
        return ~0ull;
    }
    *at = memory + frame * 512 + index;
    return **at;
}

static inline void set(u64 *at, u64 flags)
{
    if (at)
        *at |= flags;
}

static inline u64 wanted_by(unsigned access) { return access / 3 == 1 ? 0x60 : 0x20; }

/* Whether rights and key deny an access; the complement of the error code's part, or 0. */
static inline u64 denial_of(unsigned access, unsigned rights, u64 leaf)
{
    u32 keys = denied[access];
    if (keys && (keys >> ((leaf >> 59 & 15) | (rights & 2 ? 0 : 16)) & 1))
        return ~0x21ull;
    return permitted[access] >> rights & 1 ? 0 : ~1ull;
}

struct found {
    u64 entry;
    unsigned rights, level;
};

#define LEVEL(shift, reserved_low, at)                \
    entry = entry_of(entry, va >> (shift) & 511, &at); \
    if (!(entry & 1))                                  \
        return ~0ull;                                  \
    if (entry & (reserved | (reserved_low)))           \
        return ~9ull;

/* Four levels; a negative answer is a fault. */
static u64 walk(u64 va, unsigned access, struct found *found)
{
    u64 entry = root, fold, any, within, denial, wanted;
    u64 *at4, *at3 = NULL, *at2 = NULL, *at;
    unsigned rights;

    LEVEL(39, reserved_upper, at4)
    fold = any = entry;
    LEVEL(30, 0, at3)
    if (entry & 0x80) {
        if (entry & reserved_1gb)
            return ~9ull;
        within = 0x3fffffff, at = at3, at3 = NULL, found->level = 3;
    } else {
        fold &= entry, any |= entry;
        LEVEL(21, 0, at2)
        if (entry & 0x80) {
            if (entry & 0x1fe000)
                return ~9ull;
            within = 0x1fffff, at = at2, at2 = NULL, found->level = 2;
        } else {
            fold &= entry, any |= entry;
            LEVEL(12, 0, at)
            within = 0xfff, found->level = 1;
        }
    }
    rights = ((fold & entry) >> 1 & 3) | (unsigned)((any | entry) >> 63) << 2;
    if ((denial = denial_of(access, rights, entry)))
        return denial;
    wanted = wanted_by(access);
    if (!(fold & 0x20) || (entry & wanted) != wanted) {
        set(at4, 0x20), set(at3, 0x20), set(at2, 0x20), set(at, wanted);
    }
    found->entry = entry, found->rights = rights;
    return FRAME_BITS(entry, within) | (va & within);
}

/* A direct-mapped TLB of 1024 entries in front. */
struct translation {
    u64 tag, frame;
    /* Rights in bits 0..2, dirty in bit 3; global. */
    u32 rights, key, global, unused;
};
static struct translation tlb[1024];
/* By access: bit i is set if rights and dirty flag i let it hit. */
static u32 granted[9];

static u64 walk_cached(u64 va, unsigned access)
{
    struct translation *one = &tlb[va >> 12 & 1023];
    struct found found;
    u64 pa;

    if (one->tag == va >> 12 && (granted[access] >> one->rights & 1)) {
        u32 keys = denied[access];
        if (!keys || !(keys >> (one->key | (one->rights & 2 ? 0 : 16)) & 1))
            return one->frame | (va & 0xfff);
    }
    pa = walk(va, access, &found);
    if ((int64_t)pa >= 0)
        *one = (struct translation){ va >> 12, pa & ~0xfffull,
                                     found.rights | (access / 3 == 1 || (found.entry & 0x40) ? 8 : 0),
                                     found.entry >> 59 & 15, !!(found.entry & 0x100), 0 };
    return pa;
}

#define EPT_LEVEL(shift, reserved_low, at)                                                       \
    entry = entry_of(entry, gpa >> (shift) & 511, &at);                                           \
    if (!(entry & 7))                                                                             \
        return ~0ull;                                                                             \
    if ((entry & 3) == 2 || (entry & (reserved | (entry & 0x80 ? 0 : 0x78) | (reserved_low))))     \
        return ~1ull;                                                                             \
    fold &= entry;

/* Extended tables; answers the address, and the rights with the dirty flag. */
static u64 walk_ept(u64 gpa, unsigned use, u64 *rights)
{
    u64 entry = ept_root, fold = ~0ull, within, wanted = wants[use];
    u64 *at4, *at3 = NULL, *at2 = NULL, *at;

    if (gpa >> 48)
        return ~0ull;
    EPT_LEVEL(39, 0xf8, at4)
    EPT_LEVEL(30, 0, at3)
    if (entry & 0x80) {
        within = 0x3fffffff, at = at3, at3 = NULL;
    } else {
        EPT_LEVEL(21, 0, at2)
        if (entry & 0x80) {
            within = 0x1fffff, at = at2, at2 = NULL;
        } else {
            entry = entry_of(entry, gpa >> 12 & 511, &at);
            if (!(entry & 7))
                return ~0ull;
            if ((entry & 3) == 2 || (entry & reserved))
                return ~1ull;
            fold &= entry;
            within = 0xfff;
        }
    }
    if ((entry & within & ~0xfffull) || (0x8c >> (entry >> 3 & 7) & 1))
        return ~1ull;
    if ((fold & needs[use]) != needs[use])
        return ~0ull;
    if ((fold & wanted & 0x100) != (wanted & 0x100) || (entry & wanted) != wanted) {
        set(at4, wanted & 0x100), set(at3, wanted & 0x100), set(at2, wanted & 0x100), set(at, wanted);
    }
    *rights = (fold & 0x407) | ((entry | wanted) & 0x200);
    return FRAME_BITS(entry, within) | (gpa & within);
}

/* Guest-physical mappings that are remembered: 4096 of them, direct-mapped. */
struct mapping {
    u64 tag, frame, rights;
};
static struct mapping mappings[4096];

static u64 ept_cached(u64 gpa, unsigned use, u64 *rights)
{
    struct mapping *one = &mappings[gpa >> 12 & 4095];
    u64 demand = needs[use] | (wants[use] & 0x200), pa;

    if (one->tag == gpa >> 12 && (one->rights & demand) == demand) {
        *rights = one->rights;
        return one->frame | (gpa & 0xfff);
    }
    pa = walk_ept(gpa, use, rights);
    if ((int64_t)pa >= 0)
        *one = (struct mapping){ gpa >> 12, pa & ~0xfffull, *rights };
    return pa;
}

struct upper {
    u64 fold, any, *table;
};

#define GUEST_LEVEL(shift, reserved_low, at, table_rights)                                            \
    pa = NESTED(((entry & FRAME) | (va >> (shift) & 511) << 3), 0, &table_rights);                     \
    if ((int64_t)pa < 0)                                                                              \
        return NESTED_EXIT;                                                                           \
    at = pa >> 12 < frames ? memory + (pa >> 3) : NULL;                                               \
    entry = at ? *at : ~0ull;                                                                         \
    if (!(entry & 1))                                                                                 \
        return ~0ull;                                                                                 \
    if (entry & (reserved | (reserved_low)))                                                          \
        return ~9ull;

#define GUEST_MARK(at, flags, table_rights)      \
    if ((at) && ((flags) & ~*(at))) {             \
        if (!((table_rights) & 2))                \
            return NESTED_EXIT;                   \
        *(at) |= (flags);                         \
    }

/* A guest's four levels over extended tables. The template is instantiated with and without the cache of mappings. */
#define GUEST_WALK(name)                                                                                        \
    static u64 name(u64 va, unsigned access, unsigned use, struct upper *upper)                                  \
    {                                                                                                           \
        u64 entry = root, fold, any, within, denial, wanted, pa, ignored;                                        \
        u64 *at4, *at3 = NULL, *at2 = NULL, *at, r4, r3 = 0, r2 = 0, r;                                          \
        unsigned rights;                                                                                        \
                                                                                                                \
        upper->table = NULL;                                                                                    \
        GUEST_LEVEL(39, reserved_upper, at4, r4)                                                                \
        fold = any = entry;                                                                                     \
        GUEST_LEVEL(30, 0, at3, r3)                                                                             \
        if (entry & 0x80) {                                                                                     \
            if (entry & reserved_1gb)                                                                           \
                return ~9ull;                                                                                   \
            within = 0x3fffffff, at = at3, r = r3, at3 = NULL;                                                  \
        } else {                                                                                                \
            fold &= entry, any |= entry;                                                                        \
            GUEST_LEVEL(21, 0, at2, r2)                                                                         \
            if (entry & 0x80) {                                                                                 \
                if (entry & 0x1fe000)                                                                           \
                    return ~9ull;                                                                               \
                within = 0x1fffff, at = at2, r = r2, at2 = NULL;                                                \
            } else {                                                                                            \
                fold &= entry, any |= entry;                                                                    \
                GUEST_LEVEL(12, 0, at, r)                                                                       \
                within = 0xfff;                                                                                 \
                upper->fold = fold, upper->any = any;                                                           \
                upper->table = at ? (u64 *)((uintptr_t)at & ~(uintptr_t)0xfff) : NULL;                          \
            }                                                                                                   \
        }                                                                                                       \
        rights = ((fold & entry) >> 1 & 3) | (unsigned)((any | entry) >> 63) << 2;                              \
        if ((denial = denial_of(access, rights, entry)))                                                        \
            return denial;                                                                                      \
        wanted = wanted_by(access);                                                                             \
        if (!(fold & 0x20) || (entry & wanted) != wanted) {                                                     \
            GUEST_MARK(at4, 0x20, r4)                                                                           \
            GUEST_MARK(at3, 0x20, r3)                                                                           \
            GUEST_MARK(at2, 0x20, r2)                                                                           \
            GUEST_MARK(at, wanted, r)                                                                           \
        }                                                                                                       \
        pa = NESTED((FRAME_BITS(entry, within) | (va & within)), use == 4 && (rights & 2) ? 5 : use, &ignored); \
        return (int64_t)pa < 0 ? NESTED_EXIT : pa;                                                              \
    }

#define NESTED walk_ept
GUEST_WALK(walk_guest)
#undef NESTED
#define NESTED ept_cached
GUEST_WALK(walk_guest_mapped)
#undef NESTED

/* Directory entries that are remembered: 256 of them, in front of the walk. */
struct directory {
    u64 tag, *table;
    unsigned rights;
};
static struct directory directories[256];

static u64 walk_guest_cached(u64 va, unsigned access, unsigned use)
{
    struct directory *one = &directories[va >> 21 & 255];
    struct upper upper;
    u64 pa, ignored;

    if (one->tag == va >> 21) {
        u64 entry = one->table[va >> 12 & 511], wanted = wanted_by(access), denial;
        unsigned rights = (one->rights & (entry >> 1 & 3)) | (one->rights & 4) | (unsigned)(entry >> 63) << 2;
        if (!(entry & 1))
            return ~0ull;
        if (!(entry & reserved)) {
            if ((denial = denial_of(access, rights, entry)))
                return denial;
            if ((entry & wanted) == wanted) {
                pa = ept_cached((entry & FRAME) | (va & 0xfff), use == 4 && (rights & 2) ? 5 : use, &ignored);
                if ((int64_t)pa >= 0)
                    return pa;
            }
        }
    }
    pa = walk_guest_mapped(va, access, use, &upper);
    if ((int64_t)pa >= 0 && upper.table)
        *one = (struct directory){ va >> 21, upper.table, (upper.fold >> 1 & 3) | (unsigned)(upper.any >> 63) << 2 };
    return pa;
}

static u32 sum;

static inline void count(u64 pa)
{
    sum = sum * 31 + ((int64_t)pa < 0 ? (u32)pa : (u32)pa + (u32)(pa >> 32));
}

static u64 word_of(const u32 *at) { return at[0] | (u64)at[1] << 32; }

int main(int argc, char **argv)
{
    static u32 registers[REGISTERS];
    struct timespec begin, end;
    struct found found;
    struct upper upper;
    FILE *file;
    u32 *accesses;
    size_t accessed, i;

    if (argc != 3 || !(file = fopen(argv[2], "rb")) || fread(registers, 4, REGISTERS, file) != REGISTERS)
        return 2;
    frames = registers[FRAMES], accessed = registers[COUNT];
    root = word_of(registers + ROOT), ept_root = word_of(registers + EPT_ROOT);
    reserved = (u64)registers[RESERVED_HIGH] << 32;
    reserved_upper = registers[RESERVED_UPPER], reserved_1gb = registers[RESERVED_1GB];
    memcpy(permitted, registers + PERMITTED, sizeof permitted);
    memcpy(denied, registers + DENIED, sizeof denied);
    for (i = 0; i < 9; i++)
        granted[i] = permitted[i] << 8 | (i / 3 == 1 ? 0 : permitted[i]);
    for (i = 0; i < 7; i++)
        needs[i] = registers[NEEDS + i], wants[i] = registers[WANTS + i];
    memory = aligned_alloc(4096, frames * 4096);
    accesses = malloc(accessed * 16);
    if (!memory || !accesses || fread(memory, 4096, frames, file) != frames || fread(accesses, 16, accessed, file) != accessed)
        return 2;
    memset(tlb, 0xff, sizeof tlb), memset(mappings, 0xff, sizeof mappings), memset(directories, 0xff, sizeof directories);

    /* The first pass fills caches and sets flags; the last one counts. */
    for (u32 pass = 0; pass <= registers[REPEATS]; pass++) {
        if (pass == 1)
            clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
        sum = 0;
#define PASS(call)                                                  \
    for (i = 0; i < accessed; i++) {                                \
        u64 va = word_of(accesses + 4 * i);                         \
        unsigned access = accesses[4 * i + 2], use = accesses[4 * i + 3]; \
        (void)use;                                                  \
        count(call);                                                \
    }
        if (!strcmp(argv[1], "walk"))
            PASS(walk(va, access, &found))
        else if (!strcmp(argv[1], "buffered"))
            PASS(walk_cached(va, access))
        else if (!strcmp(argv[1], "nested"))
            PASS(walk_guest(va, access, use, &upper))
        else if (!strcmp(argv[1], "remembered"))
            PASS(walk_guest_cached(va, access, use))
        else
            return 2;
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    printf("%.0f %u\n", (end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec), sum);
    return 0;
}
