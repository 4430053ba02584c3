//! The assistant of the demo bundle with all its stages, in this process.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kit::config::{Balance, Settings};
use kit::{Context, Link, Links, Stage};
use proto::assistant_service_client::AssistantServiceClient;
use proto::workflow_service_client::WorkflowServiceClient;
use proto::{ApproveRequest, AskRequest, Execution, Message, Turn};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::Status;

use crate::attack::Article;
use crate::newer::{News, newer as through};
use crate::receiver::{Receiver, SECRET};

/// How the stages reach each other, and the test the orchestrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Routes in this process.
    Local,
    /// Loopback TCP, every stage on its own port.
    Tcp,
}

/// The demo bundle, built.
pub fn demo() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demo").canonicalize().unwrap();
        let reader = bundle::Reader::open(&dir).unwrap();
        classifier::build(&reader, None, &|_, _| ()).unwrap();
        safety::build(&reader, None, &|_, _| ()).unwrap();
        retriever::build(&reader, None, &|_, _| ()).unwrap();
        dir
    };
    BUILT.get_or_init(build).clone()
}

/// A copy of the demo bundle with another assistant.toml.
pub fn altered(change: impl FnOnce(&str) -> String) -> TempDir {
    let copied = scratch();
    copy(&demo(), copied.path());
    let file = copied.path().join("assistant.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, change(&text)).unwrap();
    copied
}

/// A copy of the demo bundle with the articles that attacks bring, built.
pub(crate) fn planted<'a>(articles: impl Iterator<Item = &'a Article>) -> TempDir {
    let copied = scratch();
    copy(&demo(), copied.path());
    for Article { id, title, content } in articles {
        let text = format!("---\nid: {id}\ntitle: {title}\naudience: public\n---\n{content}\n");
        std::fs::write(copied.path().join(format!("knowledge/{id}.md")), text).unwrap();
    }
    let reader = bundle::Reader::open(copied.path()).unwrap();
    retriever::build(&reader, None, &|_, _| ()).unwrap();
    copied
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A folder that goes away with its handle.
pub fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A running assistant.
#[derive(Debug)]
pub struct World {
    /// A client of the front door.
    pub client: AssistantServiceClient<Link>,
    /// Links to the stages behind it.
    pub links: Links,
    /// What stands for the bank's systems.
    pub receiver: Receiver,
    context: Context,
    /// Folder of the stores.
    pub data: TempDir,
}

impl World {
    /// Starts the demo assistant.
    pub async fn start(transport: Transport) -> Self {
        Self::with(transport, &[]).await
    }

    /// Starts the demo assistant with values of the configuration set: table, key, value.
    pub async fn with(transport: Transport, values: &[(&str, &str, &str)]) -> Self {
        Self::over(transport, &demo(), values).await
    }

    /// Starts the assistant of a built bundle.
    pub async fn over(transport: Transport, bundle: &Path, values: &[(&str, &str, &str)]) -> Self {
        Self::split(transport, bundle, values, None).await
    }

    /// Starts the demo assistant with neighbours of a newer version in the place of some stages.
    pub async fn beside(news: News, newer: &[&str]) -> Self {
        let between = |stage: &str, link: Link, context: &Context| match newer.contains(&stage) {
            true => through(link, news, context),
            false => link,
        };
        Self::compose(Transport::Local, &demo(), &[], None, &between).await
    }

    /// Starts the demo assistant with a stage that is elsewhere, under a name with several addresses.
    pub async fn apart(stage: &str, url: &str, values: &[(&str, &str, &str)]) -> Self {
        let between = |name: &str, link: Link, context: &Context| match name == stage {
            true => Link::remote(url, Balance::Dns, context).unwrap(),
            false => link,
        };
        Self::compose(Transport::Local, &demo(), values, None, &between).await
    }

    /// Starts the assistant of a built bundle, with telemetry's store in a database of its own.
    pub async fn split(
        transport: Transport,
        bundle: &Path,
        values: &[(&str, &str, &str)],
        telemetry: Option<String>,
    ) -> Self {
        Self::compose(transport, bundle, values, telemetry, &|_, link, _| link).await
    }

    async fn compose(
        transport: Transport,
        bundle: &Path,
        values: &[(&str, &str, &str)],
        telemetry: Option<String>,
        between: &dyn Fn(&str, Link, &Context) -> Link,
    ) -> Self {
        let data = scratch();
        let receiver = Receiver::start().await;
        let mut settings = Settings::default();
        let quote = |path: &Path| format!("{:?}", path.display().to_string());
        settings.set("server", "bundle", &quote(bundle));
        settings.set("server", "data_dir", &quote(data.path()));
        settings.set("workflow", "targets.bank.url", &receiver.url);
        settings.set("workflow", "targets.bank.secret", SECRET);
        for (table, key, value) in values {
            settings.set(table, key, value);
        }
        if let Some(url) = scratch::chosen(&settings.server().unwrap().data_dir) {
            settings.set("server", "database.url", &url);
        }
        kit::run::install_tls();
        let context = Context { server: settings.server().unwrap(), ..Context::default() };
        let mut links = Vec::new();
        macro_rules! start {
            ($stage:ident) => {
                start!($stage, context.clone());
            };
            ($stage:ident, $context:expr) => {
                let config = settings.table($stage::NAME).unwrap();
                let stage = Box::pin($stage::service(config, $context)).await.unwrap();
                let link = link(transport, stage, &context).await;
                links.push(($stage::NAME, between($stage::NAME, link, &context)));
            };
        }
        start!(classifier);
        start!(safety);
        start!(retriever);
        start!(generator);
        start!(workflow);
        let mut apart = context.clone();
        if let Some(url) = telemetry {
            apart.server.database.url = Some(url.into());
        }
        start!(telemetry, apart);
        let links = Links::new(links);
        let front = Context { links: links.clone(), ..context.clone() };
        let config = settings.table(orchestrator::NAME).unwrap();
        let stage = Box::pin(orchestrator::service(config, front)).await.unwrap();
        let client = AssistantServiceClient::new(link(transport, stage, &context).await);
        Self { client, links, receiver, context, data }
    }

    /// One turn.
    pub async fn ask(&self, message: Message) -> Turn {
        let request = AskRequest { message: Some(message) };
        self.client.clone().ask(request).await.unwrap().into_inner().turn.unwrap()
    }

    /// One message of a conversation; an empty id starts one.
    pub async fn say(&self, conversation_id: &str, text: &str) -> Turn {
        let (conversation_id, text) = (conversation_id.to_owned(), text.to_owned());
        self.ask(Message { conversation_id, text, ..Message::default() }).await
    }

    /// A person lets an execution of high risk be done.
    ///
    /// # Errors
    /// That of the stage.
    pub async fn approve(&self, id: &str) -> Result<Execution, Status> {
        let (execution_id, actor, note) = (id.to_owned(), "ann".to_owned(), "fine".to_owned());
        let request = ApproveRequest { execution_id, approved: true, actor, note };
        let mut stage = WorkflowServiceClient::new(self.links.get(workflow::NAME).unwrap());
        Ok(stage.approve(request).await?.into_inner().execution.unwrap())
    }

    /// Stops every stage and waits for it; the folder of the stores stays until it is dropped.
    pub async fn stop(self) -> TempDir {
        self.context.shutdown.cancel();
        drop(self.client);
        drop(self.links);
        self.context.tasks.close();
        self.context.tasks.wait().await;
        self.data
    }
}

/// A link to a stage over a transport.
pub async fn link(transport: Transport, stage: Stage, context: &Context) -> Link {
    match transport {
        Transport::Local => Link::local(&stage),
        Transport::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("{}://{}", context.server.scheme(), listener.local_addr().unwrap());
            let serving = context.clone();
            context.tasks.spawn(async move { kit::serve::serve(listener, stage, &serving).await.unwrap() });
            Link::remote(&url, Balance::Single, context).unwrap()
        }
    }
}
