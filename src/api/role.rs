//! `RoleService`: roles that are made at run time.

use tonic::{Request, Response, Status};

use super::convert::roles;
use super::deadline;
use super::grant::write;
use super::proto::{self, role_service_server as server};
use super::status::{Failure, Shape};
use crate::engine::Engine;

/// The roles of one engine.
pub struct Roles {
    engine: Engine,
}

impl Roles {
    /// The service of `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl server::RoleService for Roles {
    async fn create_role(
        &self,
        request: Request<proto::CreateRoleRequest>,
    ) -> Result<Response<proto::CreateRoleResponse>, Status> {
        let deadline = deadline(&request);
        let command = roles::create(request.into_inner());
        let written = write(
            &self.engine,
            "CreateRole",
            command,
            deadline,
            Shape::Updates,
        )
        .await?;
        Ok(Response::new(roles::created(written)))
    }

    async fn update_role(
        &self,
        request: Request<proto::UpdateRoleRequest>,
    ) -> Result<Response<proto::UpdateRoleResponse>, Status> {
        let deadline = deadline(&request);
        let command = roles::update(request.into_inner());
        let written = write(
            &self.engine,
            "UpdateRole",
            command,
            deadline,
            Shape::Updates,
        )
        .await?;
        Ok(Response::new(roles::updated(written)))
    }

    async fn delete_role(
        &self,
        request: Request<proto::DeleteRoleRequest>,
    ) -> Result<Response<proto::DeleteRoleResponse>, Status> {
        let deadline = deadline(&request);
        let command = roles::delete(request.into_inner());
        let written = write(
            &self.engine,
            "DeleteRole",
            command,
            deadline,
            Shape::Updates,
        )
        .await?;
        Ok(Response::new(roles::deleted(written)))
    }

    async fn list_roles(
        &self,
        request: Request<proto::ListRolesRequest>,
    ) -> Result<Response<proto::ListRolesResponse>, Status> {
        let deadline = deadline(&request);
        let (owner, at) = roles::list(request.into_inner()).map_err(Failure::from)?;
        let listed = self.engine.list_roles(&owner, at, deadline).await;
        Ok(Response::new(roles::listed(
            &listed.map_err(Failure::from)?,
        )))
    }

    async fn assign_role(
        &self,
        request: Request<proto::AssignRoleRequest>,
    ) -> Result<Response<proto::AssignRoleResponse>, Status> {
        let deadline = deadline(&request);
        let command = roles::assign(request.into_inner());
        let written = write(
            &self.engine,
            "AssignRole",
            command,
            deadline,
            Shape::Updates,
        )
        .await?;
        Ok(Response::new(roles::assigned(written)))
    }

    async fn unassign_role(
        &self,
        request: Request<proto::UnassignRoleRequest>,
    ) -> Result<Response<proto::UnassignRoleResponse>, Status> {
        let deadline = deadline(&request);
        let command = roles::unassign(request.into_inner());
        let written = write(
            &self.engine,
            "UnassignRole",
            command,
            deadline,
            Shape::Updates,
        )
        .await?;
        Ok(Response::new(roles::unassigned(written)))
    }

    async fn change_role(
        &self,
        request: Request<proto::ChangeRoleRequest>,
    ) -> Result<Response<proto::ChangeRoleResponse>, Status> {
        let deadline = deadline(&request);
        let command = roles::change(request.into_inner());
        let written = write(
            &self.engine,
            "ChangeRole",
            command,
            deadline,
            Shape::Updates,
        )
        .await?;
        Ok(Response::new(roles::changed(written)))
    }
}
