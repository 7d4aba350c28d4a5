//! A project on a running server, fed and asked the way its users do it: OTLP in, questions to the HTTP API.

use crate::binary;
use crate::client::{Answer, bare, post, send, send_all};
use crate::server::Keys;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::{Command, Output};

/// Connections that send at a time. Chosen: more than cores, so that the server never waits for a sender.
const CONNECTIONS: usize = 4;

/// A project and its keys.
#[derive(Debug, Clone)]
pub struct Project {
    /// Address of the server.
    pub url: String,
    /// Key that data come in with.
    pub ingest_key: String,
    /// Key that questions are asked with.
    pub read_key: String,
}

impl Project {
    /// The project `default` of a server.
    pub fn default_of(url: &str, keys: &Keys) -> Self {
        Self { url: url.to_owned(), ingest_key: keys.ingest.clone(), read_key: keys.read.clone() }
    }

    /// A new project of this name.
    pub async fn create(url: &str, keys: &Keys, name: &str) -> Self {
        let body = json!({"name": name}).to_string();
        let answer = send(post(&format!("{url}/api/v1/projects"), &keys.admin, "application/json", body)).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
        let answer = answer.json();
        let key = |name: &str| answer[name].as_str().unwrap().to_owned();
        Self { url: url.to_owned(), ingest_key: key("ingest_key"), read_key: key("read_key") }
    }

    /// Sends export requests in protobuf to `/v1/logs` or its like, over several connections; every record must be
    /// accepted.
    pub async fn send(&self, path: &str, requests: Vec<Vec<u8>>) {
        let mut shares: Vec<Vec<_>> = vec![Vec::new(); CONNECTIONS];
        for (number, body) in requests.into_iter().enumerate() {
            let request = post(&format!("{}{path}", self.url), &self.ingest_key, "application/x-protobuf", body);
            shares[number % CONNECTIONS].push(request);
        }
        let sending: Vec<_> = shares.into_iter().map(|share| tokio::spawn(send_all(share))).collect();
        for share in sending {
            for answer in share.await.unwrap() {
                // Anything in the body would be a partial success.
                assert!(answer.status == 200 && answer.body.is_empty(), "{answer:?}");
            }
        }
    }

    /// Waits until everything acknowledged can be asked about.
    pub async fn flush(&self) {
        let answer = send(bare("POST", &format!("{}/api/v1/flush", self.url), Some(&self.ingest_key))).await;
        assert_eq!(answer.json(), json!({"flushed": true}));
    }

    /// A saved question's answer as the server sends it.
    pub async fn get(&self, path_and_query: &str) -> Answer {
        send(bare("GET", &format!("{}{path_and_query}", self.url), Some(&self.read_key))).await
    }

    /// Rows of a saved question, by column. Values of parameters are put into the URL as they are.
    pub async fn ask(&self, query: &str, params: &[(&str, &str)]) -> Vec<Map<String, Value>> {
        let (rows, complete) = self.ask_for(query, params).await;
        assert!(complete, "{query}");
        rows
    }

    /// The same where the answer may be incomplete.
    pub async fn ask_anyway(&self, query: &str, params: &[(&str, &str)]) -> Vec<Map<String, Value>> {
        self.ask_for(query, params).await.0
    }

    async fn ask_for(&self, query: &str, params: &[(&str, &str)]) -> (Vec<Map<String, Value>>, bool) {
        let pairs: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = self.get(&format!("/api/v1/queries/{query}?{}", pairs.join("&"))).await;
        assert_eq!(answer.status, 200, "{query}: {:?}", answer.body);
        let answer = answer.json();
        let names: Vec<&str> =
            answer["columns"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect();
        let row = |row: &Value| {
            names.iter().map(|name| (*name).to_owned()).zip(row.as_array().unwrap().iter().cloned()).collect()
        };
        (answer["rows"].as_array().unwrap().iter().map(row).collect(), answer["complete"] == true)
    }

    /// The answer to `POST /api/v1/funnel`.
    pub async fn funnel(&self, question: &Value) -> Value {
        let url = format!("{}/api/v1/funnel", self.url);
        let answer = send(post(&url, &self.read_key, "application/json", question.to_string())).await;
        assert_eq!(answer.status, 200, "{question}: {:?}", answer.body);
        answer.json()
    }

    /// How many reached each step of a funnel.
    pub async fn reached(&self, question: &Value) -> Vec<u64> {
        let answer = self.funnel(question).await;
        answer["steps"].as_array().unwrap().iter().map(|step| step["count"].as_u64().unwrap()).collect()
    }

    /// Runs `gemba import` for this project.
    pub fn import(&self, file: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary::gemba());
        command.arg("import").arg(file).args(arguments).args(["--url", &self.url, "--key", &self.ingest_key]);
        command.output().unwrap()
    }

    /// Runs `gemba export` of this project.
    pub fn export(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary::gemba());
        command.arg("export").args(arguments).args(["--url", &self.url, "--key", &self.read_key]);
        command.output().unwrap()
    }
}
