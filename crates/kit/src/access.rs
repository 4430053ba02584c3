//! Who may call what: one row a role and service, and nothing that is not listed.

use serde::{Deserialize, Serialize};

/// What a caller is to this installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The orchestrator, the only stage that calls others.
    Orchestrator,
    /// A service of the company that passes on what customers write.
    Service,
    /// A person, or a desk of theirs, that takes over conversations and approves actions.
    Desk,
    /// Whoever runs the installation.
    Operator,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Orchestrator, Self::Service, Self::Desk, Self::Operator];

    /// The role of this name, as it stands in a token.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Its name in configuration, tokens and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::Service => "service",
            Self::Desk => "desk",
            Self::Operator => "operator",
        }
    }

    /// Whether it may call an RPC by its path, such as "/firstline.v1.ClassifierService/Classify".
    #[must_use]
    pub fn may(self, path: &str) -> bool {
        let Some((service, method)) = path.trim_start_matches('/').split_once('/') else { return false };
        // Health says nothing that a caller with a name may not know.
        if service == "grpc.health.v1.Health" {
            return true;
        }
        if service.starts_with("grpc.reflection.") {
            return self == Self::Operator;
        }
        let Some(service) = service.strip_prefix("firstline.v1.") else { return false };
        let mut rows = ALLOWED.iter().filter(|(role, allowed, _)| *role == self && *allowed == service);
        rows.any(|(_, _, methods)| methods.split_whitespace().any(|allowed| allowed == method))
    }
}

/// Whether an RPC is one of ours, by its path.
pub(crate) fn is_known(path: &str) -> bool {
    Role::ALL.iter().any(|role| role.may(path))
}

use Role::{Desk, Operator, Orchestrator, Service};

const ALLOWED: [(Role, &str, &str); 18] = [
    (Orchestrator, "ClassifierService", "Classify"),
    (Orchestrator, "SafetyService", "ScreenInput ScreenPassages ScreenOutput ScreenAction"),
    (Orchestrator, "RetrieverService", "Retrieve"),
    (Orchestrator, "GeneratorService", "Generate ChooseIntent Judge RecheckAnswer EvictAnswer"),
    (
        Orchestrator,
        "WorkflowService",
        "Propose Confirm Cancel ListExecutions ListNotices AcknowledgeNotice ForgetExecutions",
    ),
    (
        Orchestrator,
        "TelemetryService",
        "Record SubmitFeedback SubmitLabel SubmitEvaluation ReportDeliveries ListFeedback ForgetConversations",
    ),
    (Orchestrator, "RolloutService", "WatchPlan ListUnseen"),
    (
        Service,
        "AssistantService",
        "Ask Converse SubmitFeedback ConfirmAction RequestHandoff GetConversation",
    ),
    (
        Desk,
        "AssistantService",
        "ListHandoffs GetHandoff ClaimHandoff ReplyAsAgent AssignHandoff AddNote ResolveHandoff GetConversation
        SubmitFeedback",
    ),
    (Desk, "WorkflowService", "ListExecutions GetExecution Approve"),
    (
        Operator,
        "AssistantService",
        "Ask Converse SubmitFeedback ConfirmAction RequestHandoff GetConversation ListHandoffs GetHandoff
        ClaimHandoff ReplyAsAgent AssignHandoff AddNote ResolveHandoff RedeliverHandoff ExplainTurn ForgetCustomer
        ExportCustomer ListStages",
    ),
    (Operator, "ClassifierService", "Classify ListIntents"),
    (Operator, "RetrieverService", "Retrieve PutDocuments DeleteDocuments GetIndex"),
    (Operator, "GeneratorService", "EvictAnswer"),
    (
        Operator,
        "WorkflowService",
        "ListExecutions GetExecution Approve Cancel ResolveUnknown Compensate ListNotices",
    ),
    (
        Operator,
        "TelemetryService",
        "SubmitLabel GetMetrics WatchMetrics WatchTurns Export ListFeedback NextAudit LabelAudit",
    ),
    (
        Operator,
        "RolloutService",
        "GetPlan WatchPlan GetRollout ApplyRollout ApproveRollout HoldRollout AbortRollout RearmRollout
        ListDecisions ListUnseen",
    ),
    (Operator, "CostService", "GetCosts PlanCosts"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths of all RPCs of the contracts.
    fn rpcs() -> Vec<String> {
        use prost::Message as _;
        let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let paths = set.file.iter().flat_map(|file| {
            file.service.iter().flat_map(|service| {
                service
                    .method
                    .iter()
                    .map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name()))
            })
        });
        paths.collect()
    }

    #[test]
    fn every_rpc_has_somebody_who_may_call_it_and_every_row_names_rpcs() {
        let rpcs = rpcs();
        for path in rpcs.iter().filter(|path| path.starts_with("/firstline.")) {
            assert!(Role::ALL.iter().any(|role| role.may(path)), "nobody may call {path}");
        }
        for (role, service, methods) in ALLOWED {
            for method in methods.split_whitespace() {
                let path = format!("/firstline.v1.{service}/{method}");
                assert!(rpcs.contains(&path), "{} has a row for {path}, which is no RPC", role.name());
            }
        }
    }

    #[test]
    fn who_passes_on_customers_reaches_no_stage_and_no_desk_changes_the_rollout() {
        for (role, path, may) in [
            (Service, "/firstline.v1.AssistantService/Ask", true),
            (Service, "/firstline.v1.AssistantService/ExplainTurn", false),
            (Service, "/firstline.v1.WorkflowService/Confirm", false),
            (Desk, "/firstline.v1.RolloutService/AbortRollout", false),
            (Operator, "/firstline.v1.RolloutService/AbortRollout", true),
            (Orchestrator, "/firstline.v1.RetrieverService/PutDocuments", false),
            (Orchestrator, "/firstline.v1.AssistantService/Ask", false),
            (Service, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", false),
            (Service, "/grpc.health.v1.Health/Check", true),
            (Operator, "/firstline.v1.AssistantServiceX/Ask", false),
            (Operator, "nonsense", false),
        ] {
            assert_eq!(role.may(path), may, "{} {path}", role.name());
        }
    }
}
