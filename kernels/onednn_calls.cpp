#include "kernels/onednn_calls.h"

#include <new>

namespace {

template <typename Call> dnnl_status_t guarded(Call &&call) noexcept
{
    try {
        return call();
    } catch (const std::bad_alloc &) {
        return dnnl_out_of_memory;
    } catch (...) {
        return dnnl_runtime_error;
    }
}

} // namespace

#define DEFINE(name, parameters, arguments)                                                                            \
    dnnl_status_t qr_##name parameters                                                                                 \
    {                                                                                                                  \
        return guarded([&] { return name arguments; });                                                                \
    }
QR_ONEDNN_CALLS(DEFINE)
