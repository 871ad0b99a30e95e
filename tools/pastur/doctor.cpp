// pastur doctor: what machine, devices and libraries training would find here, and what to do about the rest.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "data/output.h"
#include "engine/io/console.h"
#include "engine/io/host_name.h"
#include "kernels/base/error.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/doctor/all_reduce.h"
#include "tools/pastur/doctor/checks.h"
#include "tools/pastur/doctor/host_report.h"
#include "tools/pastur/failure.h"
#include "tools/pastur/print.h"
#include "tools/pastur/rank_context.h"

namespace pastur {
namespace {

using State = CheckOutcome::State;
using Json = nlohmann::ordered_json;

struct DoctorArguments {
    std::string device = "auto", folder = ".", json;
    double timeout_s = 60;
    bool all_reduce = false;  ///< measure alone and print one line of JSON: what doctor starts under mpirun
};

State worst_of(const std::vector<CheckOutcome>& outcomes) {
    State worst = State::kGood;
    for (const CheckOutcome& outcome : outcomes) worst = std::max(worst, outcome.state);
    return worst;
}

Json to_json(const std::vector<CheckOutcome>& outcomes) {
    Json checks = Json::array();
    for (const CheckOutcome& outcome : outcomes) {
        checks.push_back(
            {{"check", outcome.what}, {"state", name_of(outcome.state)}, {"text", outcome.text}});
        if (!outcome.advice.empty()) checks.back()["advice"] = outcome.advice;
        for (const auto& [name, value] : outcome.numbers) checks.back()[name] = value;
        if (outcome.ranks > 0) checks.back()["ranks"] = outcome.ranks;
    }
    return checks;
}

Json to_json(const HostReport& host) {
    Json facts = Json::object();
    for (const auto& [name, value] : host.facts) facts[name] = value;
    return {{"host", host.host},
            {"ranks", host.ranks},
            {"state", name_of(worst_of(host.outcomes))},
            {"facts", std::move(facts)},
            {"checks", to_json(host.outcomes)}};
}

void show(const std::vector<CheckOutcome>& outcomes) {
    for (const CheckOutcome& outcome : outcomes) {
        print_text("{:<8} {:<18} {}\n", name_of(outcome.state), outcome.what, outcome.text);
        if (!outcome.advice.empty()) print_text("{:<28}{}\n", "", outcome.advice);
    }
}

/// Prints and runs the checks of this host one after the other.
std::vector<CheckOutcome> examine_host(const DoctorArguments& arguments, Device device, bool shows) {
    std::vector<CheckOutcome> outcomes;
    const auto add = [&](const std::vector<CheckOutcome>& more) {
        if (shows) show(more);
        outcomes.insert(outcomes.end(), more.begin(), more.end());
    };
    add(check_machine());
    add(check_devices(device));
    add(check_disk(arguments.folder));
    return outcomes;
}

/// One host: all checks in one list. A job: those of all hosts together, and the hosts.
Json to_json(State worst, const std::vector<HostReport>& hosts, const std::vector<CheckOutcome>& together,
             bool is_job) {
    Json json = {{"v", 1}, {"host", hosts.front().host}, {"state", name_of(worst)}};
    if (!is_job) {
        json["facts"] = to_json(hosts.front())["facts"];
        json["checks"] = to_json(hosts.front().outcomes);
        for (const Json& check : to_json(together)) json["checks"].push_back(check);
        return json;
    }
    int ranks = 0;
    for (const HostReport& host : hosts) ranks += host.ranks;
    json["ranks"] = ranks;
    json["checks"] = to_json(together);
    for (const HostReport& host : hosts) json["hosts"].push_back(to_json(host));
    return json;
}

void write_json(const std::string& file, const Json& json) {
    if (file.empty()) return;
    write_file_atomically(file, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

int doctor_alone(const DoctorArguments& arguments, Launch::Kind kind) {
    const Device device = parse_device(arguments.device);
    HostReport host{host_name()};
    host.outcomes = examine_host(arguments, device, /*shows=*/true);
    const std::vector<CheckOutcome> together =
        kind == Launch::Kind::kAlone
            ? check_all_reduce(device, arguments.timeout_s)
            : std::vector<CheckOutcome>{{"all-reduce", State::kGood, "not measured: there is one rank"}};
    show(together);
    host.facts = host_facts(worst_of(host.outcomes) == State::kBad ? Device::kCpu : device);
    const State worst = std::max(worst_of(host.outcomes), worst_of(together));
    write_json(arguments.json, to_json(worst, {host}, together, /*is_job=*/false));
    if (worst != State::kBad) return 0;
    fail(ExitCode::kNoDevice, "training cannot start on {}: see what is bad above", host.host);
}

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// What the first rank of every host found, by rank; the same on every rank.
std::vector<HostReport> gather_reports(const DoctorArguments& arguments, World& world) {
    const Device device = parse_device(arguments.device);
    HostReport mine{host_name()};
    if (world.local_rank() == 0) {
        mine.outcomes = examine_host(arguments, device, /*shows=*/false);
        const bool usable = worst_of(mine.outcomes) != State::kBad;
        mine.facts = host_facts(usable ? device : Device::kCpu);
        mine.gpus = usable && device != Device::kCpu ? cuda_device_count() : 0;
    }
    world.sideband().all_gather("");  // every rank is here, so the clocks are read at one moment
    mine.clock = seconds_now();
    std::vector<HostReport> hosts;
    std::vector<std::string> names;
    for (const std::string& text : world.sideband().all_gather(pack(mine))) {
        HostReport report = unpack(text);
        names.push_back(report.host);
        if (!report.outcomes.empty()) hosts.push_back(std::move(report));
    }
    for (HostReport& host : hosts)
        host.ranks = static_cast<int>(std::count(names.begin(), names.end(), host.host));
    return hosts;
}

/// Over MPI or TCP between CPUs and, where each rank has a GPU of its own, over NCCL.
std::vector<CheckOutcome> all_reduce_of_job(const DoctorArguments& arguments, World& world,
                                            const std::vector<HostReport>& hosts) {
    const bool is_bad = std::any_of(hosts.begin(), hosts.end(), [](const HostReport& host) {
        return worst_of(host.outcomes) == State::kBad;
    });
    if (is_bad) return {{"all-reduce", State::kGood, "not measured: see what is bad above"}};
    world.set_timeout(arguments.timeout_s);
    const auto measure = [&](const char* what, const std::string& device) {
        Context ctx = rank_context(device, world);
        return outcome_of(what, measure_all_reduce(ctx, *make_comm(world, ctx, "auto")));
    };
    std::vector<CheckOutcome> outcomes = {measure("all-reduce", "cpu")};
    if (parse_device(arguments.device) == Device::kCpu) return outcomes;
    const bool each_has_one = std::all_of(hosts.begin(), hosts.end(),
                                          [](const HostReport& host) { return host.gpus >= host.ranks; });
    if (each_has_one)
        outcomes.push_back(measure("all-reduce of GPUs", "cuda"));
    else
        outcomes.push_back(
            {"all-reduce of GPUs", State::kGood, "not measured: it takes a GPU for each rank of a host"});
    return outcomes;
}

int doctor_of_job(const DoctorArguments& arguments, World& world) {
    const std::vector<HostReport> hosts = gather_reports(arguments, world);
    State worst = State::kGood;
    for (const HostReport& host : hosts) {
        worst = std::max(worst, worst_of(host.outcomes));
        if (world.rank() > 0) continue;
        print_text("{}{}, {} ranks\n", &host == &hosts.front() ? "" : "\n", printable(host.host), host.ranks);
        show(host.outcomes);
    }
    std::vector<CheckOutcome> together = compare_hosts(hosts);
    if (world.rank() == 0) {
        print_text("\nall hosts, {} ranks\n", world.size());
        show(together);
        std::fflush(stdout);  // before a measurement that may hang
    }
    const std::vector<CheckOutcome> speeds = all_reduce_of_job(arguments, world, hosts);
    together.insert(together.end(), speeds.begin(), speeds.end());
    worst = std::max(worst, worst_of(together));
    // A wrong sum may be one rank's alone.
    std::vector<std::string> states = world.sideband().all_gather(std::to_string(static_cast<int>(worst)));
    worst = static_cast<State>(std::stoi(*std::max_element(states.begin(), states.end())));
    if (world.rank() == 0) {
        show(speeds);
        write_json(arguments.json, to_json(worst, hosts, together, /*is_job=*/true));
        if (worst == State::kBad)
            Console::report_error("training cannot start on these hosts: see what is bad above");
    }
    world.sideband().all_gather("");  // no rank ends the job before rank 0 has printed
    return static_cast<int>(worst == State::kBad ? ExitCode::kNoDevice : ExitCode::kOk);
}

int measure_alone(const DoctorArguments& arguments, World& world) {
    Context ctx = rank_context(arguments.device, world);
    const AllReduceSpeed speed = measure_all_reduce(ctx, *make_comm(world, ctx, "auto"));
    if (world.rank() == 0) print_text("{}\n", to_json_line(speed));
    return 0;
}

int doctor(const DoctorArguments& arguments) {
    World world = World::from_environment();
    if (world.size() == 1 && !arguments.all_reduce) return doctor_alone(arguments, world.kind());
    try {
        return arguments.all_reduce ? measure_alone(arguments, world) : doctor_of_job(arguments, world);
    } catch (const std::exception&) {
        if (world.size() == 1) throw;
        // The other ranks may wait in a collective.
        const Failure failure = current_failure();
        Console::report_error(fmt::format("rank {}: {}", world.rank(), failure.text));
        world.abort(static_cast<int>(failure.code));
    }
}

}  // namespace

void add_doctor_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand(
        "doctor",
        "What machine, devices, libraries and disk training would find here, and what to do about the rest; under "
        "mpirun or srun, on every host");
    const auto arguments = std::make_shared<DoctorArguments>();
    command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
    command->add_option("--dir", arguments->folder, "Folder for runs, where 64 MiB are written and removed")
        ->capture_default_str()
        ->type_name("DIR");
    command
        ->add_option("--timeout", arguments->timeout_s,
                     "Seconds after which an all-reduce between ranks counts as hung")
        ->check(CLI::Range(1.0, 3600.0))
        ->capture_default_str();
    command->add_option("--json", arguments->json, "Also write everything as JSON")->type_name("FILE");
    command->add_flag("--all-reduce", arguments->all_reduce)->group("");  // hidden
    command->footer("Exit codes: 0 training can start, perhaps with warnings; 69 it cannot; 71 ranks hang.");
    command->callback([arguments, &run] { run = [arguments] { return doctor(*arguments); }; });
}

}  // namespace pastur
