//! `mirrory account …`

use std::{
    fmt::Display,
    io::{self, BufRead, IsTerminal},
};

use secrecy::{ExposeSecret, SecretString};

use super::{
    Context,
    args::{AccountChange, AccountCommand},
    output::{Answer, Failure},
};
use crate::{
    accounts::{Accounts, EmailAddress, NewAccount, Role, Username},
    passwords::{NewPassword, PasswordHash, Passwords, Whose},
    store::{Database, changes::Actor},
    types::{ids::AccountId, name::Name},
};

const COLUMNS: &[&str] = &[
    "id",
    "email",
    "username",
    "name",
    "role",
    "status",
    "created_at",
];

pub(super) async fn run(context: &Context, command: AccountCommand) -> Result<Answer, Failure> {
    match command {
        AccountCommand::Create {
            email,
            username,
            name,
            role,
            password_stdin,
        } => {
            let account = parse(&email, username.as_deref(), name.as_deref(), role)?;
            create(context, &account, PasswordSource::from(password_stdin)).await
        }
        AccountCommand::List => {
            let accounts = accounts(context, &context.open_store().await?);
            Answer::many(&accounts.list().await?, COLUMNS)
        }
        AccountCommand::ResetPassword {
            account_id,
            password_stdin,
        } => reset_password(context, account_id, PasswordSource::from(password_stdin)).await,
        AccountCommand::Change(change) => apply(context, change).await,
    }
}

async fn apply(context: &Context, change: AccountChange) -> Result<Answer, Failure> {
    let database = context.open_store().await?;
    let accounts = accounts(context, &database);
    let by = Actor::Operator;
    let mut tx = database.begin().await?;
    let changed = match change {
        AccountChange::Disable { account_id } => accounts.disable(&mut tx, by, account_id).await?,
        AccountChange::Enable { account_id } => accounts.enable(&mut tx, by, account_id).await?,
        AccountChange::ResetTwoFactor { account_id } => {
            accounts.reset_two_factor(&mut tx, by, account_id).await?
        }
    };
    tx.commit().await?;
    Answer::one(&changed)
}

async fn reset_password(
    context: &Context,
    account_id: AccountId,
    source: PasswordSource,
) -> Result<Answer, Failure> {
    let hash = hash(context, &source.read()?).await?;
    let database = context.open_store().await?;
    let mut tx = database.begin().await?;
    let changed = accounts(context, &database)
        .reset_password(&mut tx, Actor::Operator, account_id, &hash)
        .await?;
    tx.commit().await?;
    Answer::one(&changed)
}

fn accounts(context: &Context, database: &Database) -> Accounts {
    Accounts::new(
        database.clone(),
        context.clock.clone(),
        context.randomness.clone(),
    )
}

fn parse(
    email: &str,
    username: Option<&str>,
    name: Option<&str>,
    role: Role,
) -> Result<NewAccount, Failure> {
    Ok(NewAccount {
        email: EmailAddress::parse(email).map_err(wrong("email"))?,
        username: username
            .map(Username::parse)
            .transpose()
            .map_err(wrong("username"))?,
        name: name.map(Name::parse).transpose().map_err(wrong("name"))?,
        role,
    })
}

fn wrong<E: Display>(option: &'static str) -> impl FnOnce(E) -> Failure {
    move |invalid| Failure::usage(format!("--{option} {invalid}"))
}

async fn create(
    context: &Context,
    account: &NewAccount,
    source: PasswordSource,
) -> Result<Answer, Failure> {
    let password = source.read()?;
    let hash = hash(context, &password).await?;
    let database = context.make_store().await?;
    let mut tx = database.begin().await?;
    let created = accounts(context, &database)
        .create(&mut tx, Actor::Operator, account, &hash)
        .await?;
    tx.commit().await?;
    Answer::one(&created)
}

async fn hash(context: &Context, password: &NewPassword) -> Result<PasswordHash, Failure> {
    let turn = Passwords::new(context.randomness.clone()).enter(Whose::Operator)?;
    Ok(turn.hash(password).await?)
}

/// Where a command has a password from: never from its arguments, which every user can see.
#[derive(Clone, Copy)]
enum PasswordSource {
    Terminal,
    Stdin,
}

impl From<bool> for PasswordSource {
    fn from(password_stdin: bool) -> Self {
        if password_stdin {
            Self::Stdin
        } else {
            Self::Terminal
        }
    }
}

impl PasswordSource {
    fn read(self) -> Result<NewPassword, Failure> {
        let typed = match self {
            Self::Stdin => first_line(io::stdin().lock())?,
            Self::Terminal if !io::stdin().is_terminal() => {
                return Err(Failure::usage(
                    "there is no terminal to ask for the password on: use --password-stdin",
                ));
            }
            Self::Terminal => ask()?,
        };
        NewPassword::parse(typed.expose_secret().to_owned())
            .map_err(|invalid| Failure::usage(format!("the password {invalid}")))
    }
}

fn first_line(mut reader: impl BufRead) -> io::Result<SecretString> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned().into())
}

fn ask() -> Result<SecretString, Failure> {
    let typed = SecretString::from(rpassword::prompt_password("Password: ")?);
    let again = SecretString::from(rpassword::prompt_password("Again: ")?);
    if typed.expose_secret() == again.expose_secret() {
        Ok(typed)
    } else {
        Err(Failure::usage("the two passwords differ"))
    }
}
