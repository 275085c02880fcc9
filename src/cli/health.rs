//! `portcullis health`

use clap::Args;
use serde_json::json;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::Exit;
use super::client::Client;
use super::output::Output;

/// Asks whether the server serves.
#[derive(Args, Debug)]
#[command(after_help = "Exit codes: 0 serving, 1 not serving or not there.")]
pub(super) struct Health {
    /// One service, such as portcullis.v1.CheckService; left out: the server as a whole
    #[arg(default_value = "", hide_default_value = true)]
    service: String,
}

impl Health {
    pub(super) fn run(self, client: &Client, output: Output) -> anyhow::Result<Exit> {
        let unknown = format!(
            "the server has no service {:?}; leave it out to ask for the server as a whole",
            self.service
        );
        let request = HealthCheckRequest {
            service: self.service,
        };
        let mut service = HealthClient::new(client.channel());
        let answer = client.call(async {
            let answer = service.check(request).await;
            answer.map_err(|status| match status.code() {
                Code::NotFound => Status::not_found(unknown),
                _ => status,
            })
        });
        let answer = answer?.into_inner();
        let status = answer.status();
        let word = status.as_str_name();
        output.give(&json!({ "status": word }), word)?;
        Ok(match status {
            ServingStatus::Serving => Exit::Done,
            _ => Exit::No,
        })
    }
}
