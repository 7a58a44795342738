/* interleavings.c -- ring and bell in every order of their steps.

   Does:      walks all states that the protocol of transport/ring.c and bell.c
              can reach, for a few records, and checks that no record is lost,
              none is read before it was written, none is both taken and
              revoked, and nobody sleeps for ever while there is work.  Then
              leaves out one part of the protocol after the other: each time a
              failure must be found, or the part is not needed or this program
              does not see enough.
   Owns:      the states of one walk.
   Invariant: a state that was met before is not walked from again.
   Called by: tests/transport/test_transport.py.

   The memory: each thread has a buffer of stores that others do not see yet.
   TSO, as on x86: they drain in order, an atomic change of a word drains all
   before it and is seen at once.  WEAK: stores to different words drain in any
   order, but a release store after all that were made before it; an atomic
   change reads the word and puts the new value into the buffer as a release
   store, and nobody else can change the word meanwhile.  In both a fence waits
   for the buffer to be empty.  Loads happen in the order of the program. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS = 3, CAPACITY = 2, THREADS = 3, BUFFER = 6 };

enum { READY, TAKEN, REVOKED };

/* The words of shared memory. */
enum {
    HEAD,
    TAIL,
    ASLEEP,
    TICKET,
    COUNT, /* what several sleepers have taken of what HEAD says */
    SLOT,
    STATE = SLOT + CAPACITY,
    WORDS = STATE + CAPACITY,
};

enum { PLAIN, RELEASE, EXCLUSIVE };

typedef struct entry {
    uint8_t word, value, kind;
} entry;

typedef struct thread {
    uint8_t pc, asleep, ended, timed_out;
    uint8_t at, ticket, seen; /* locals */
    uint8_t length;
    entry buffer[BUFFER];
} thread;

typedef struct state {
    uint8_t memory[WORDS];
    uint8_t timeouts;      /* how many waits may still run out of time */
    uint8_t fate[RECORDS]; /* what became of each record: bits of 1 << state */
    thread threads[THREADS];
} state;

/* Parts of the protocol that can be left out. */
typedef enum part {
    NOTHING,
    RINGERS_FENCE,
    SLEEPERS_FENCE,
    SECOND_LOOK,
    TICKET_CHECK,
    RELEASE_OF_HEAD,
    EXCHANGE_BY_OWNER,
    EXCHANGE_BY_READER,
    COUNT_OF_SLEEPERS,
    WAKING_ALL,
    LOOK_AFTER_UNMUTE,
    FENCE_OF_UNMUTE,
} part;

typedef bool (*program)(state *s, int t, int choice);

typedef struct model {
    const char *name;
    program programs[THREADS];
    bool weak;
    int timeouts;
    bool (*is_good)(const state *s); /* of a state in which nothing happens */
    part left_out;
} model;

/* What the walk is about, and what was found. */
static model now;
static const char *problem;

/* ---- memory ------------------------------------------------------------- */

static uint8_t
load(const state *s, int t, int word)
{
    const thread *me = &s->threads[t];
    for (int i = me->length - 1; i >= 0; i--) {
        if (me->buffer[i].word == word) {
            return me->buffer[i].value;
        }
    }
    return s->memory[word];
}

/* False: not before something has drained. */
static bool
store(state *s, int t, int word, int value, int kind)
{
    thread *me = &s->threads[t];
    if (me->length == BUFFER) {
        return false;
    }
    me->buffer[me->length++] =
        (entry){(uint8_t)word, (uint8_t)value, (uint8_t)kind};
    return true;
}

static bool
is_drained(const state *s, int t)
{
    return s->threads[t].length == 0;
}

/* Whether the thread may change a word atomically now. */
static bool
may_change(const state *s, int t, int word)
{
    if (!now.weak) {
        return is_drained(s, t);
    }
    for (int other = 0; other < THREADS; other++) {
        const thread *them = &s->threads[other];
        for (int i = 0; other != t && i < them->length; i++) {
            if (them->buffer[i].word == word) {
                return false;
            }
        }
    }
    return s->threads[t].length < BUFFER;
}

/* The second half of that, after the word was loaded. */
static void
change(state *s, int t, int word, int value)
{
    if (now.weak) {
        (void)store(s, t, word, value, EXCLUSIVE);
    }
    else {
        s->memory[word] = (uint8_t)value;
    }
}

/* The entry [which] of the buffer becomes visible, if it may. */
static bool
drain(state *s, int t, int which)
{
    thread *me = &s->threads[t];
    if (which >= me->length) {
        return false;
    }
    entry oldest = me->buffer[which];
    if (which != 0 && (!now.weak || oldest.kind != PLAIN)) {
        return false;
    }
    for (int i = 0; i < which; i++) {
        if (me->buffer[i].word == oldest.word) {
            return false;
        }
    }
    s->memory[oldest.word] = oldest.value;
    me->length--;
    memmove(&me->buffer[which], &me->buffer[which + 1],
            (size_t)(me->length - which) * sizeof(entry));
    memset(&me->buffer[me->length], 0, sizeof(entry));
    return true;
}

/* ---- pieces of the protocol --------------------------------------------- */

static bool
go(state *s, int t, int pc)
{
    s->threads[t].pc = (uint8_t)pc;
    return true;
}

static bool
end(state *s, int t)
{
    s->threads[t].ended = 1;
    return true;
}

static bool
wake(state *s, int t)
{
    if (!is_drained(s, t)) {
        return false; /* the system call is a fence */
    }
    for (int i = 0; i < THREADS; i++) {
        bool woken = s->threads[i].asleep != 0;
        s->threads[i].asleep = 0;
        if (woken && now.left_out == WAKING_ALL) {
            break;
        }
    }
    return true;
}

static bool
fence(state *s, int t, part this)
{
    return now.left_out == this || is_drained(s, t);
}

static void
settle(state *s, int record, int fate)
{
    s->fate[record] |= (uint8_t)(1 << fate);
    if (s->fate[record] == (1 << TAKEN | 1 << REVOKED)) {
        problem = "a record was taken and revoked";
    }
}

/* A record changes from READY to [fate], by compare and exchange or, if [left]
   is left out, by a look and a store.  *[next] is where the thread goes. */
static bool
claim(state *s, int t, int record, int fate, part left, int second, int *next)
{
    int word = STATE + record % CAPACITY;
    if (now.left_out == left) {
        if (load(s, t, word) == READY) {
            *next = second;
        }
        return true;
    }
    if (!may_change(s, t, word)) {
        return false;
    }
    if (load(s, t, word) == READY) {
        change(s, t, word, fate);
        settle(s, record, fate);
    }
    return true;
}

/* The steps of fpk_bell_ring, from [first] on; at the end goes to [after].
   [*done]: whether the step was one of them. */
static bool
ring(state *s, int t, int first, int after, bool *done)
{
    thread *me = &s->threads[t];
    *done = true;
    switch (me->pc - first) {
    case 0:
        return fence(s, t, RINGERS_FENCE) && go(s, t, first + 1);
    case 1:
        return go(s, t, load(s, t, ASLEEP) & 1 ? first + 2 : after);
    case 2: {
        if (!may_change(s, t, ASLEEP)) {
            return false;
        }
        int asleep = load(s, t, ASLEEP);
        change(s, t, ASLEEP, asleep & ~1);
        return go(s, t, asleep & 1 ? first + 3 : after);
    }
    case 3:
        if (!may_change(s, t, TICKET)) {
            return false;
        }
        change(s, t, TICKET, load(s, t, TICKET) + 1);
        return go(s, t, first + 4);
    case 4:
        return wake(s, t) && go(s, t, after);
    default:
        *done = false;
        return false;
    }
}

/* The steps from fpk_bell_arm to fpk_bell_disarm, from [first] on; then goes
   to [after].  [base]: the word that HEAD must exceed, or -1: local [at]. */
static bool
rest(state *s, int t, int first, int after, int base, bool *done)
{
    thread *me = &s->threads[t];
    *done = true;
    switch (me->pc - first) {
    case 0:
        me->ticket = load(s, t, TICKET);
        return go(s, t, first + 1);
    case 1:
        if (!may_change(s, t, ASLEEP)) {
            return false;
        }
        change(s, t, ASLEEP, (load(s, t, ASLEEP) + 2) | 1);
        return go(s, t, first + 2);
    case 2:
        return fence(s, t, SLEEPERS_FENCE) && go(s, t, first + 3);
    case 3:
        me->seen = base < 0 ? me->at : load(s, t, base);
        return go(s, t, first + 4);
    case 4: {
        bool found = load(s, t, HEAD) > me->seen || me->seen == RECORDS;
        me->seen = 0;
        if (now.left_out == SECOND_LOOK) {
            found = false;
        }
        return go(s, t, found ? first + 6 : first + 5);
    }
    case 5: {
        if (!is_drained(s, t)) {
            return false;
        }
        bool same = s->memory[TICKET] == me->ticket;
        me->asleep = same || now.left_out == TICKET_CHECK;
        return go(s, t, first + 6);
    }
    case 6: {
        if (now.left_out == COUNT_OF_SLEEPERS) {
            me->ticket = 0;
            return store(s, t, ASLEEP, 0, PLAIN) && go(s, t, after);
        }
        if (!may_change(s, t, ASLEEP)) {
            return false;
        }
        int asleep = load(s, t, ASLEEP);
        me->ticket = 0;
        change(s, t, ASLEEP, asleep < 4 ? 0 : asleep - 2);
        return go(s, t, after);
    }
    default:
        *done = false;
        return false;
    }
}

/* ---- programs ----------------------------------------------------------- */

/* Writes records, publishes each, rings, and may revoke what it wrote. */
static bool
owner(state *s, int t, int choice)
{
    enum { FIRST, STATE_WORD, PUBLISH, RING };
    enum { CHOOSE = RING + 5, LOOK, REVOKE, STORE };
    thread *me = &s->threads[t];
    bool done;
    int slot = me->at % CAPACITY;
    bool moved = ring(s, t, RING, CHOOSE, &done);
    if (done) {
        return choice == 0 && moved;
    }
    if (choice != 0 && me->pc != CHOOSE) {
        return false;
    }
    int next = CHOOSE;
    switch (me->pc) {
    case FIRST:
        if (me->at == RECORDS) {
            return end(s, t);
        }
        if (me->at - load(s, t, TAIL) >= CAPACITY) {
            return false; /* full: goes on when the reader has */
        }
        return store(s, t, SLOT + slot, me->at + 1, PLAIN) &&
               go(s, t, STATE_WORD);
    case STATE_WORD:
        return store(s, t, STATE + slot, READY, PLAIN) && go(s, t, PUBLISH);
    case PUBLISH:
        return store(s, t, HEAD, me->at + 1,
                     now.left_out == RELEASE_OF_HEAD ? PLAIN : RELEASE) &&
               go(s, t, RING);
    case CHOOSE:
        /* Goes on, or revokes this record, or the one before. */
        if (choice == 0) {
            me->at++;
            return go(s, t, FIRST);
        }
        if (choice > 2 || choice > me->at + 1) {
            return false;
        }
        me->seen = (uint8_t)(me->at + 1 - choice);
        return go(s, t, LOOK);
    case LOOK:
        next = load(s, t, TAIL) <= me->seen ? REVOKE : CHOOSE;
        break;
    case REVOKE:
        if (!claim(s, t, me->seen, REVOKED, EXCHANGE_BY_OWNER, STORE,
                   &next)) {
            return false;
        }
        break;
    case STORE:
        if (!store(s, t, STATE + me->seen % CAPACITY, REVOKED, PLAIN)) {
            return false;
        }
        settle(s, me->seen, REVOKED);
        break;
    default:
        abort();
    }
    if (next == CHOOSE) {
        me->seen = 0;
        me->at++;
        next = FIRST;
    }
    return go(s, t, next);
}

/* Sleeps until there is a record, takes it, gives its bytes back. */
static bool
reader(state *s, int t, int choice)
{
    enum { FIRST, REST, READ = 8, TAKE, STORE, GIVE_BACK };
    thread *me = &s->threads[t];
    bool done;
    bool moved = rest(s, t, REST, FIRST, -1, &done);
    if (choice != 0 || done) {
        return choice == 0 && moved;
    }
    int slot = me->at % CAPACITY, next = GIVE_BACK;
    switch (me->pc) {
    case FIRST:
        if (me->at == RECORDS) {
            return end(s, t);
        }
        return go(s, t, load(s, t, HEAD) > me->at ? READ : REST);
    case READ:
        if (load(s, t, SLOT + slot) != me->at + 1) {
            problem = "a record was read before it was written";
        }
        return go(s, t, TAKE);
    case TAKE:
        return claim(s, t, me->at, TAKEN, EXCHANGE_BY_READER, STORE, &next) &&
               go(s, t, next);
    case STORE:
        if (!store(s, t, STATE + slot, TAKEN, PLAIN)) {
            return false;
        }
        settle(s, me->at, TAKEN);
        return go(s, t, GIVE_BACK);
    case GIVE_BACK:
        if (!store(s, t, TAIL, me->at + 1, RELEASE)) {
            return false;
        }
        me->at++;
        return go(s, t, FIRST);
    default:
        abort();
    }
}

static bool
every_record_has_one_fate(const state *s)
{
    for (int i = 0; i < RECORDS; i++) {
        if (s->fate[i] != 1 << TAKEN && s->fate[i] != 1 << REVOKED) {
            return false;
        }
    }
    return s->threads[0].ended && s->threads[1].ended;
}

/* Publishes work for several, rings each time. */
static bool
offerer(state *s, int t, int choice)
{
    enum { PUBLISH, RING };
    thread *me = &s->threads[t];
    bool done;
    bool moved = ring(s, t, RING, PUBLISH, &done);
    if (choice != 0 || done) {
        return choice == 0 && moved;
    }
    if (me->at == RECORDS) {
        return end(s, t);
    }
    if (!store(s, t, HEAD, me->at + 1, RELEASE)) {
        return false;
    }
    me->at++;
    return go(s, t, RING);
}

/* Takes one of what is offered, if there is some: goes to [after] if it did,
   to [else_] if there was none.  Two steps from [first] on. */
static bool
take(state *s, int t, int first, int after, int else_, bool *done)
{
    thread *me = &s->threads[t];
    *done = true;
    switch (me->pc - first) {
    case 0:
        me->at = load(s, t, COUNT);
        return go(s, t, load(s, t, HEAD) > me->at ? first + 1 : else_);
    case 1:
        if (!may_change(s, t, COUNT)) {
            return false;
        }
        if (load(s, t, COUNT) == me->at) {
            change(s, t, COUNT, me->at + 1);
            return go(s, t, after);
        }
        return go(s, t, first);
    default:
        *done = false;
        return false;
    }
}

enum { FIRST_OF_REST = 2, SLEEPERS_DISARM = FIRST_OF_REST + 6 };

/* One of several that sleep on one bell. */
static bool
sleeper(state *s, int t, int choice)
{
    enum { TAKE };
    bool done;
    bool moved = take(s, t, TAKE, TAKE, FIRST_OF_REST, &done);
    if (!done) {
        moved = rest(s, t, FIRST_OF_REST, TAKE, COUNT, &done);
    }
    if (choice != 0) {
        return false;
    }
    thread *me = &s->threads[t];
    if (moved && me->pc == FIRST_OF_REST && me->at == RECORDS) {
        return end(s, t);
    }
    if (moved && me->pc == TAKE && me->timed_out) {
        return end(s, t); /* it waited long enough: the others go on */
    }
    return moved;
}

/* Looks for work in place of the sleepers for a while, then leaves. */
static bool
pumper(state *s, int t, int choice)
{
    enum { LOOK, MUTE, TAKE, UNMUTE = 4, FENCE, COUNT_AGAIN, HEAD_AGAIN, TICK,
           WAKE };
    thread *me = &s->threads[t];
    bool done;
    bool moved = take(s, t, TAKE, UNMUTE, UNMUTE, &done);
    if (choice != 0 || done) {
        return choice == 0 && moved;
    }
    switch (me->pc) {
    case LOOK:
        return go(s, t, load(s, t, ASLEEP) & 1 ? MUTE : TAKE);
    case MUTE:
        if (!may_change(s, t, ASLEEP)) {
            return false;
        }
        change(s, t, ASLEEP, load(s, t, ASLEEP) & ~1);
        return go(s, t, TAKE);
    case UNMUTE:
        if (!may_change(s, t, ASLEEP)) {
            return false;
        }
        change(s, t, ASLEEP, load(s, t, ASLEEP) | 1);
        return go(s, t, FENCE);
    case FENCE:
        return fence(s, t, FENCE_OF_UNMUTE) && go(s, t, COUNT_AGAIN);
    case COUNT_AGAIN:
        if (now.left_out == LOOK_AFTER_UNMUTE) {
            return end(s, t);
        }
        me->seen = load(s, t, COUNT);
        return go(s, t, HEAD_AGAIN);
    case HEAD_AGAIN:
        return load(s, t, HEAD) > me->seen ? go(s, t, TICK) : end(s, t);
    case TICK:
        if (!may_change(s, t, TICKET)) {
            return false;
        }
        change(s, t, TICKET, load(s, t, TICKET) + 1);
        return go(s, t, WAKE);
    case WAKE:
        return wake(s, t) && end(s, t);
    default:
        abort();
    }
}

static bool
all_is_taken(const state *s)
{
    return s->memory[COUNT] == RECORDS;
}

/* ---- the walk ----------------------------------------------------------- */

static state *states;
static uint32_t count, room;
static uint32_t *table; /* numbers of states, from 1 */
static uint32_t table_size;

static uint64_t
hash_of(const state *s)
{
    const unsigned char *bytes = (const unsigned char *)s;
    uint64_t hash = 14695981039346656037U;
    for (size_t i = 0; i < sizeof *s; i++) {
        hash = (hash ^ bytes[i]) * 1099511628211U;
    }
    return hash ^ (hash >> 29);
}

static void
enter(uint32_t number)
{
    uint64_t at = hash_of(&states[number - 1]) & (table_size - 1);
    while (table[at] != 0) {
        at = (at + 1) & (table_size - 1);
    }
    table[at] = number;
}

static void *
checked(void *memory)
{
    if (memory == NULL) {
        printf("no memory for the states\n");
        exit(2);
    }
    return memory;
}

/* Notes a state, if it is a new one. */
static void
visit(const state *s)
{
    uint64_t at = hash_of(s) & (table_size - 1);
    for (; table[at] != 0; at = (at + 1) & (table_size - 1)) {
        if (memcmp(&states[table[at] - 1], s, sizeof *s) == 0) {
            return;
        }
    }
    if (count == room) {
        room *= 2;
        states = checked(realloc(states, room * sizeof *states));
    }
    states[count++] = *s;
    table[at] = count;
    if (count > table_size / 2) {
        free(table);
        table_size *= 2;
        table = checked(calloc(table_size, sizeof *table));
        for (uint32_t i = 1; i <= count; i++) {
            enter(i);
        }
    }
}

/* Whether the time of a wait can be over: also when it was just woken. */
static bool
is_waiting(const state *s, int t)
{
    const thread *me = &s->threads[t];
    return me->asleep || (now.programs[t] == sleeper && !me->timed_out &&
                          me->pc == SLEEPERS_DISARM);
}

/* All states that follow [s]; whether there is any. */
static bool
follow(const state *s)
{
    bool any = false;
    for (int t = 0; t < THREADS && problem == NULL; t++) {
        if (now.programs[t] == NULL) {
            continue;
        }
        for (int i = 0; i < s->threads[t].length; i++) {
            state next = *s;
            if (drain(&next, t, i)) {
                visit(&next);
                any = true;
            }
        }
        if (s->timeouts > 0 && is_waiting(s, t)) {
            state next = *s;
            next.timeouts--;
            next.threads[t].asleep = 0;
            next.threads[t].timed_out = now.programs[t] == sleeper;
            visit(&next);
            /* That it could end by itself must not be what saves it, so
               this does not count as something that can happen. */
        }
        if (s->threads[t].asleep) {
            continue;
        }
        for (int choice = 0; choice < 3 && !s->threads[t].ended; choice++) {
            state next = *s;
            if (now.programs[t](&next, t, choice)) {
                visit(&next);
                any = true;
            }
        }
    }
    return any;
}

/* Walks through all states of a model: what goes wrong, or NULL. */
static const char *
walk(const model *given)
{
    now = *given;
    problem = NULL;
    count = 0;
    room = 1024;
    table_size = 4096;
    states = checked(malloc(room * sizeof *states));
    table = checked(calloc(table_size, sizeof *table));
    state first;
    memset(&first, 0, sizeof first);
    first.timeouts = (uint8_t)now.timeouts;
    visit(&first);
    for (uint32_t i = 0; i < count && problem == NULL; i++) {
        state here = states[i];
        bool moved = follow(&here);
        if (!moved && problem == NULL && !now.is_good(&here)) {
            problem = "work is left and nobody is awake";
        }
    }
    free(states);
    free(table);
    return problem;
}

/* ---- what is checked ---------------------------------------------------- */

static const model models[] = {
    {"ring", {owner, reader}, false, 2, every_record_has_one_fate, NOTHING},
    {"ring", {owner, reader}, true, 2, every_record_has_one_fate, NOTHING},
    {"two sleepers", {offerer, sleeper, sleeper}, false, 1, all_is_taken,
     NOTHING},
    {"two sleepers", {offerer, sleeper, sleeper}, true, 1, all_is_taken,
     NOTHING},
    {"mute", {offerer, sleeper, pumper}, false, 0, all_is_taken, NOTHING},
    {"mute", {offerer, sleeper, pumper}, true, 0, all_is_taken, NOTHING},
};

enum { RING_TSO, RING_WEAK, TWO_TSO, TWO_WEAK, MUTE_TSO, MUTE_WEAK };

static const struct {
    part left_out;
    int model;
    const char *name;
} mutants[] = {
    {RINGERS_FENCE, RING_TSO, "the fence of the ringer (TSO)"},
    {RINGERS_FENCE, RING_WEAK, "the fence of the ringer"},
    {SLEEPERS_FENCE, RING_WEAK, "the fence of the sleeper"},
    {SECOND_LOOK, RING_TSO, "the second look"},
    {TICKET_CHECK, RING_TSO, "the ticket"},
    {RELEASE_OF_HEAD, RING_WEAK, "the release of the head"},
    {EXCHANGE_BY_OWNER, RING_TSO, "the exchange when revoking"},
    {EXCHANGE_BY_READER, RING_TSO, "the exchange when taking"},
    {COUNT_OF_SLEEPERS, TWO_TSO, "the count of sleepers"},
    {WAKING_ALL, TWO_TSO, "waking all sleepers"},
    {SECOND_LOOK, TWO_TSO, "the second look of two sleepers"},
    {RINGERS_FENCE, TWO_WEAK, "the fence of the ringer of two sleepers"},
    {LOOK_AFTER_UNMUTE, MUTE_TSO, "the look after unmute"},
    {FENCE_OF_UNMUTE, MUTE_WEAK, "the fence of unmute"},
};

int
main(void)
{
    int failures = 0;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const char *found = walk(&models[i]);
        const char *memory = models[i].weak ? "weak" : "TSO";
        if (found == NULL) {
            printf("ok as it is: %s, %s: %u states\n", models[i].name, memory,
                   count);
        }
        else {
            printf("FAILED %s, %s: %s\n", models[i].name, memory, found);
            failures++;
        }
    }
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++) {
        model mutant = models[mutants[i].model];
        mutant.left_out = mutants[i].left_out;
        const char *found = walk(&mutant);
        if (found != NULL) {
            printf("ok without %s: %s\n", mutants[i].name, found);
        }
        else {
            printf("FAILED without %s: nothing found in %u states\n",
                   mutants[i].name, count);
            failures++;
        }
    }
    return failures == 0 ? 0 : 1;
}
