// A C++ program that decodes with the installed library, with exceptions and templates of its own beside those inside
// it.
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include <quire/quire.h>

static void check(quire_status status, const quire_error &error)
{
    if (status != QUIRE_OK) throw std::runtime_error(error.message);
}

static unsigned decode()
{
    quire_error         error{};
    quire_model        *model  = nullptr;
    quire_engine       *engine = nullptr;
    quire_model_options synthetic{};
    synthetic.size = sizeof synthetic;
    quire_engine_options options{};
    options.size          = sizeof options;
    options.num_kv_blocks = 64;
    check(quire_model_synthetic("tiny", &synthetic, &model, &error), error);
    check(quire_engine_create(&options, model, &engine, &error), error);
    const std::vector<int32_t> prompt{1, 2, 3};
    quire_request              request{};
    request.size         = sizeof request;
    request.prompt       = prompt.data();
    request.prompt_count = static_cast<uint32_t>(prompt.size());
    request.max_tokens   = 4;
    quire_request_id id;
    check(quire_engine_submit(engine, &request, &id, &error), error);
    unsigned tokens = 0;
    for (bool more = true; more;) {
        quire_step step{};
        step.size = sizeof step;
        check(quire_engine_step(engine, &step), error);
        std::vector<quire_event> events(8);
        const size_t             count = quire_engine_poll(engine, events.data(), events.size());
        for (size_t i = 0; i < count; i++) {
            tokens += events[i].kind == QUIRE_EVENT_TOKEN;
            more &= events[i].kind != QUIRE_EVENT_FINISHED;
        }
    }
    quire_engine_destroy(engine);
    quire_model_destroy(model);
    return tokens;
}

int main()
{
    try {
        std::printf("%u tokens\n", decode());
        return 0;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 1;
    }
}
