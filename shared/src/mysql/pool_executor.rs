//! Single statements on a [`Pool`]: each acquires a connection, and releases it after the answer.

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use sqlx::mysql::{MySqlQueryResult, MySqlRow, MySqlStatement, MySqlTypeInfo};
use sqlx::{Either, Execute, Executor, MySql, SqlStr};

use super::pool::Pool;

impl<'p> Executor<'p> for &'p Pool {
    type Database = MySql;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<MySqlQueryResult>>
    where
        'p: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        async move {
            let mut connection = self.acquire().await?;
            let ended = self.bounded(connection.execute(query)).await;
            connection.finish(ended)
        }
        .boxed()
    }

    fn fetch_all<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Vec<MySqlRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        async move {
            let mut connection = self.acquire().await?;
            let ended = self.bounded(connection.fetch_all(query)).await;
            connection.finish(ended)
        }
        .boxed()
    }

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<MySqlQueryResult, MySqlRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        let all = async move {
            let mut connection = self.acquire().await?;
            let ended = self.bounded(connection.fetch_many(query).try_collect::<Vec<_>>()).await;
            let all = connection.finish(ended)?;
            Ok::<_, sqlx::Error>(futures_util::stream::iter(all.into_iter().map(Ok)))
        };
        futures_util::stream::once(all).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<MySqlRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        async move {
            let mut connection = self.acquire().await?;
            let ended = self.bounded(connection.fetch_optional(query)).await;
            connection.finish(ended)
        }
        .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [MySqlTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<MySqlStatement>>
    where
        'p: 'e,
    {
        async move {
            let mut connection = self.acquire().await?;
            let ended = self.bounded(connection.prepare_with(sql, parameters)).await;
            connection.finish(ended)
        }
        .boxed()
    }
}
