// pastur doctor: what machine, devices and libraries training would find here, and what to do about the rest.
#include "tools/pastur/doctor/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/output.h"
#include "engine/io/host_name.h"
#include "kernels/base/error.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/print.h"

namespace pastur {
namespace {

struct DoctorArguments {
    std::string device = "auto", folder = ".", json;
};

nlohmann::ordered_json to_json(const std::vector<CheckOutcome>& outcomes, CheckOutcome::State worst) {
    nlohmann::ordered_json checks = nlohmann::ordered_json::array();
    for (const CheckOutcome& outcome : outcomes) {
        checks.push_back(
            {{"check", outcome.what}, {"state", name_of(outcome.state)}, {"text", outcome.text}});
        if (!outcome.advice.empty()) checks.back()["advice"] = outcome.advice;
    }
    return {{"v", 1}, {"host", host_name()}, {"state", name_of(worst)}, {"checks", std::move(checks)}};
}

int doctor(const DoctorArguments& arguments) {
    const Device device = parse_device(arguments.device);
    std::vector<CheckOutcome> outcomes;
    CheckOutcome::State worst = CheckOutcome::State::kGood;
    const auto show = [&](const std::vector<CheckOutcome>& more) {
        for (const CheckOutcome& outcome : more) {
            print_text("{:<8} {:<18} {}\n", name_of(outcome.state), outcome.what, outcome.text);
            if (!outcome.advice.empty()) print_text("{:<28}{}\n", "", outcome.advice);
            worst = std::max(worst, outcome.state);
        }
        outcomes.insert(outcomes.end(), more.begin(), more.end());
    };
    show(check_machine());
    show(check_devices(device));
    show(check_disk(arguments.folder));
    if (!arguments.json.empty())
        write_file_atomically(arguments.json, to_json(outcomes, worst).dump(2) + "\n");
    if (worst != CheckOutcome::State::kBad) return 0;
    fail(ExitCode::kNoDevice, "training cannot start on {}: see what is bad above", host_name());
}

}  // namespace

void add_doctor_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand(
        "doctor",
        "What machine, devices, libraries and disk training would find here, and what to do about the rest");
    const auto arguments = std::make_shared<DoctorArguments>();
    command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
    command->add_option("--dir", arguments->folder, "Folder for runs, where 64 MiB are written and removed")
        ->capture_default_str()
        ->type_name("DIR");
    command->add_option("--json", arguments->json, "Also write everything as JSON")->type_name("FILE");
    command->footer("Exit codes: 0 training can start, perhaps with warnings; 69 it cannot.");
    command->callback([arguments, &run] { run = [arguments] { return doctor(*arguments); }; });
}

}  // namespace pastur
