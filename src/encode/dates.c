/* dates.c -- the fields of dates, times and their differences.

   Does:      writes the arguments that rebuild an object of the datetime
              module, read from the object as its __reduce_ex__ would.
   Owns:      nothing; the module's table of C functions is in the state.
   Invariant: only exact types of the C implementation are looked into, and
              only where a time zone, which is an object of any kind, has no
              part in it.
   Called by: instances.c. */
#include "base/bytes.h"
#include "encode/atom_inline.h"
#include "encode/encoder.h"

#include <datetime.h>

enum fpk_date_kind
fpk_find_date_kind(fpk_state *state, PyTypeObject *type)
{
    if (strncmp(type->tp_name, "datetime.", strlen("datetime.")) != 0) {
        return FPK_NO_DATE;
    }
    if (state->datetime_api == NULL) {
        state->datetime_api = PyCapsule_Import(PyDateTime_CAPSULE_NAME, 0);
        if (state->datetime_api == NULL) {
            PyErr_Clear(); /* datetime is written in Python here */
            return FPK_NO_DATE;
        }
    }
    const PyDateTime_CAPI *api = state->datetime_api;
    return type == api->DateTimeType ? FPK_DATETIME
           : type == api->DateType   ? FPK_DATE
           : type == api->TimeType   ? FPK_TIME
           : type == api->DeltaType  ? FPK_TIMEDELTA
                                     : FPK_NO_DATE;
}

bool
fpk_has_plain_date_fields(const fpk_encoder *e, PyObject *obj,
                          enum fpk_date_kind kind)
{
    switch (kind) {
    case FPK_DATETIME:
        return e->protocol >= 3 && PyDateTime_DATE_GET_TZINFO(obj) == Py_None;
    case FPK_TIME:
        return e->protocol >= 3 && PyDateTime_TIME_GET_TZINFO(obj) == Py_None;
    case FPK_DATE:
        return e->protocol >= 3;
    case FPK_TIMEDELTA:
        return true;
    case FPK_NO_DATE:
        break;
    }
    return false;
}

static uint8_t *
put_date(uint8_t *p, PyObject *obj, bool fold)
{
    int year = PyDateTime_GET_YEAR(obj);
    *p++ = (uint8_t)(year >> 8);
    *p++ = (uint8_t)(year & 0xff);
    *p++ = (uint8_t)(PyDateTime_GET_MONTH(obj) | (fold ? 0x80 : 0));
    *p++ = (uint8_t)PyDateTime_GET_DAY(obj);
    return p;
}

static uint8_t *
put_time(uint8_t *p, int hour, int minute, int second, int microsecond)
{
    *p++ = (uint8_t)hour;
    *p++ = (uint8_t)minute;
    *p++ = (uint8_t)second;
    *p++ = (uint8_t)(microsecond >> 16);
    *p++ = (uint8_t)((microsecond >> 8) & 0xff);
    *p++ = (uint8_t)(microsecond & 0xff);
    return p;
}

int
fpk_emit_date_fields(fpk_encoder *e, PyObject *obj, enum fpk_date_kind kind)
{
    /* The fold is the top bit of the month or hour, since protocol 4. */
    bool has_fold = e->protocol >= 4;

    if (!fpk_reserve(e, 64)) {
        return FPK_ERROR;
    }
    if (kind == FPK_TIMEDELTA) {
        fpk_put_int64(e, PyDateTime_DELTA_GET_DAYS(obj));
        fpk_put_int64(e, PyDateTime_DELTA_GET_SECONDS(obj));
        fpk_put_int64(e, PyDateTime_DELTA_GET_MICROSECONDS(obj));
        fpk_put_byte(e, FPK_OP_TUPLE3);
        return FPK_DONE;
    }
    uint8_t *start = fpk_buffer_end(&e->out);
    uint8_t *p = start + 2;
    if (kind == FPK_DATE) {
        p = put_date(p, obj, false);
    }
    else if (kind == FPK_TIME) {
        int fold = has_fold && PyDateTime_TIME_GET_FOLD(obj) ? 0x80 : 0;
        p = put_time(p, PyDateTime_TIME_GET_HOUR(obj) | fold,
                     PyDateTime_TIME_GET_MINUTE(obj),
                     PyDateTime_TIME_GET_SECOND(obj),
                     PyDateTime_TIME_GET_MICROSECOND(obj));
    }
    else {
        p = put_date(p, obj, has_fold && PyDateTime_DATE_GET_FOLD(obj));
        p = put_time(p, PyDateTime_DATE_GET_HOUR(obj),
                     PyDateTime_DATE_GET_MINUTE(obj),
                     PyDateTime_DATE_GET_SECOND(obj),
                     PyDateTime_DATE_GET_MICROSECOND(obj));
    }
    start[0] = FPK_OP_SHORT_BINBYTES;
    start[1] = (uint8_t)(p - start - 2);
    *p++ = FPK_OP_TUPLE1;
    e->out.length += (size_t)(p - start);
    return FPK_DONE;
}
