#include "tools/pastur/every_rank.h"

#include <fmt/format.h>

#include "engine/io/console.h"

namespace pastur {

int run_as_rank(World& world, const std::function<int()>& run) {
    try {
        return run();
    } catch (const JobFailed& failed) {
        return failed.code;
    } catch (const std::exception&) {
        if (world.size() == 1) throw;
        // The other ranks may wait in a collective: end them, and name the rank that failed.
        const Failure failure = current_failure();
        Console::report_error(fmt::format("rank {}: {}", world.rank(), failure.text));
        world.abort(static_cast<int>(failure.code));
    }
}

}  // namespace pastur
