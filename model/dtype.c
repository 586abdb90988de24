#include "quire/model.h"

const char *quire_dtype_name(quire_dtype dtype)
{
    static const char *const names[] = {"auto", "f32", "bf16", "int8"};
    return (unsigned)dtype < 4 ? names[dtype] : "?";
}
